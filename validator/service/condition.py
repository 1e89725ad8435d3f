"""The node's conditions in Kubernetes: what a daemon says, as a sidecar writes it.

`GPUEnvironmentReady` is True, False or Unknown as things stand now. `GPUEnvironmentFailed` changes
with a verdict alone: what could not be told, and a daemon that is not there, leave it as it is. So
a taint that follows it is put by a failed check, and taken off by the same check's pass on as many
GPUs. What is needed for that stands in the condition's message, since a daemon forgets.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from validator.service.readyfile import rfc3339
from validator.service.word import Word

#: Before `Ready` and `Failed` in the types of the two conditions.
PREFIX: Final = "GPUEnvironment"

#: A condition that nothing changes is written again after this, as the kubelet does with its own.
HEARTBEAT: Final = timedelta(minutes=5)

_MEMORY: Final = re.compile(r" \[failed: ([\w., ]+)(?:; GPUs: (\d{1,4}))?\]$")
#: All of the catalogue fit (11 KiB); of more the probes' names alone are remembered.
_MOST_CHECKS: Final = 600
_GOOD: Final = ("pass", "warn")
_GONE: Final = ("disabled", "not_applicable")

Condition = dict[str, Any]


@dataclass(frozen=True)
class _Memory:
    """What a condition says had failed: checks, or whole probes, on a node with so many GPUs."""

    names: tuple[str, ...] = ()
    gpus: int = 0

    @classmethod
    def of(cls, failed: Condition) -> "_Memory":
        found = _MEMORY.search(str(failed.get("message", "")))
        if found is None or failed.get("status") != "True":
            return cls()
        return cls(tuple(found[1].split(", ")), int(found[2] or 0))

    def __str__(self) -> str:
        names = self.names
        if len(names) > _MOST_CHECKS:
            names = tuple(dict.fromkeys(one.partition(".")[0] for one in names))
        gpus = f"; GPUs: {self.gpus}" if self.gpus else ""
        return f" [failed: {', '.join(names)}{gpus}]" if names else ""


def conditions(
    word: Word, known: Sequence[Condition], now: datetime, prefix: str = PREFIX
) -> list[Condition]:
    """The conditions to write, given those that the node has; an empty list where all stand."""
    old = {str(one["type"]): one for one in known}
    ready, failed = f"{prefix}Ready", f"{prefix}Failed"
    word = _with_memory(word, old.get(failed, {}))
    reason = {"sound": "GPUEnvironmentIsSound", "failed": "GPUEnvironmentIsBroken"}
    status = {"sound": ("True", "False"), "failed": ("False", "True")}.get(word.verdict)
    if status is None:
        told = [(ready, "Unknown", "GPUEnvironmentIsNotKnown")]
    else:
        both = zip((ready, failed), status, strict=True)
        told = [(name, one, reason[word.verdict]) for name, one in both]
    made = (
        _condition(old.get(name, {}), name, one, why, word.line, now) for name, one, why in told
    )
    return [one for one in made if one is not None]


def _with_memory(word: Word, failed: Condition) -> Word:
    """A word that also remembers what failed before the daemon was started anew.

    A probe that runs once an hour has no result after a start, and the daemon no memory of it.
    """
    if word.verdict == "unknown":
        return word
    memory = _Memory.of(failed)
    earlier = tuple(name for name in memory.names if not _is_refuted(name, word, memory.gpus))
    if word.verdict == "sound":
        return replace(word, verdict="failed", line=str(failed["message"])) if earlier else word
    now = (
        name
        for probe, devices in word.probes.items()
        for one in devices
        if one.status == "fail"
        for name in one.failed or (probe,)
    )
    names = tuple(dict.fromkeys([*now, *earlier]))
    gpus = max(word.gpus, memory.gpus if earlier else 0)
    return replace(word, line=f"{word.line}{_Memory(names, gpus)}")


def _is_refuted(name: str, word: Word, gpus: int) -> bool:
    """Whether an earlier fail no longer stands: passed, not applicable, or without a turn.

    A pass that left the check out does not count, nor one on fewer GPUs than there were: the one
    that failed may be among those that are gone, and comes back with the next start.
    """
    probe = name.partition(".")[0]
    devices = word.probes.get(probe, ())
    if all(one.reason in _GONE for one in devices):
        return True
    if word.gpus < gpus and probe not in word.of_host:
        return False
    return all(
        one.reason in _GONE or (one.status in _GOOD and name not in one.left_out) for one in devices
    )


def _condition(
    old: Condition, name: str, status: str, reason: str, message: str, now: datetime
) -> Condition | None:
    """A condition as Kubernetes has it; None where the one that stands says the same."""
    same = old.get("status") == status
    # A message that counts seconds is no news.
    if same and old.get("reason") == reason and status == "Unknown":
        message = str(old.get("message", message)) if _is_fresh(old, now) else message
    unchanged = same and (old.get("reason"), old.get("message")) == (reason, message)
    if unchanged and _is_fresh(old, now):
        return None
    stamp = rfc3339(now)
    return {
        "type": name,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": old.get("lastTransitionTime", stamp) if same else stamp,
    }


def _is_fresh(old: Condition, now: datetime) -> bool:
    """Whether a condition was written within the last five minutes."""
    try:
        written = datetime.fromisoformat(str(old["lastHeartbeatTime"]).replace("Z", "+00:00"))
        return timedelta(0) <= now - written < HEARTBEAT
    except (KeyError, ValueError, TypeError):
        return False
