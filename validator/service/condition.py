"""The node's conditions in Kubernetes: what a daemon says, as a sidecar writes it.

`GPUEnvironmentReady` is True, False or Unknown as things stand now. `GPUEnvironmentFailed` changes
with a verdict alone: what could not be told, and a daemon that is not there, leave it as it is. So
a taint that follows it is put by a failed probe, and taken off by the same probe's pass.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from validator.service.ask import NoAnswerError, get
from validator.service.readyfile import rfc3339

#: Before `Ready` and `Failed` in the types of the two conditions.
PREFIX: Final = "GPUEnvironment"

#: A condition that nothing changes is written again after this, as the kubelet does with its own.
HEARTBEAT: Final = timedelta(minutes=5)

#: Less than what the kubelet's probes wait for `/readyz`; it answers from memory.
_ANSWER_S: Final = 5.0
_LINE_BYTES: Final = 200  # the first line of /readyz has 80 characters at most
_PROBES: Final = re.compile(r" \[failed: ([\w, ]+)\]$")
_GOOD: Final = ("pass", "warn")
_GONE: Final = ("disabled", "not_applicable")

Condition = dict[str, Any]


@dataclass(frozen=True)
class Word:
    """What a daemon says of its node."""

    verdict: Literal["sound", "failed", "unknown"]
    line: str  # why
    probes: Mapping[str, Sequence[tuple[Any, Any]]]  # name -> status and reason on each device


def word_of(server: str) -> Word:
    """Ask a daemon; that it cannot be asked says nothing of the node."""
    try:
        ready = get(server, "/readyz", _ANSWER_S)
        line = ready.body[:_LINE_BYTES].decode(errors="replace").partition("\n")[0]
        if ready.status not in {200, 503}:
            return Word("unknown", f"{server} answered {ready.status}", {})
        if ready.status == 503 and not line.startswith("fail:"):
            return Word("unknown", line, {})
        probes = _probes(json.loads(get(server, "/api/v1/probes", _ANSWER_S).body))
    except NoAnswerError as error:
        return Word("unknown", str(error), {})
    except (ValueError, TypeError, KeyError) as error:
        return Word("unknown", f"{server} gave no list of probes: {error!r}", {})
    return Word("sound" if ready.status == 200 else "failed", line, probes)


def _probes(listed: Any) -> dict[str, list[tuple[Any, Any]]]:
    return {
        str(one["name"]): [(device["status"], device["reason"]) for device in one["devices"]]
        for one in listed
    }


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
    """A word that also remembers the probes that failed before the daemon was started anew.

    A probe that runs once an hour has no result after a start, and the daemon no memory of it.
    """
    if word.verdict == "unknown":
        return word
    before = str(failed.get("message", "")) if failed.get("status") == "True" else ""
    found = _PROBES.search(before)
    earlier = found[1].split(", ") if found else []
    open_still = [name for name in earlier if not _is_refuted(word.probes.get(name, ()))]
    if word.verdict == "sound":
        return Word("failed", before, word.probes) if open_still else word
    now = [name for name, one in word.probes.items() if "fail" in dict(one)]
    names = ", ".join(dict.fromkeys([*now, *open_still]))
    return Word("failed", f"{word.line} [failed: {names}]" if names else word.line, word.probes)


def _is_refuted(devices: Sequence[tuple[Any, Any]]) -> bool:
    """Whether an earlier fail no longer stands: passed, not applicable, or without a turn."""
    return all(status in _GOOD or reason in _GONE for status, reason in devices)


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
