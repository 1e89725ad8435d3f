"""What a daemon says of its node, as far as a node condition goes by it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from validator.service.ask import NoAnswerError, get

#: Less than what the kubelet's probes wait for `/readyz`; it answers from memory.
_ANSWER_S: Final = 5.0
_LINE_BYTES: Final = 200  # the first line of /readyz has 80 characters at most


class OnDevice(NamedTuple):
    """What counts now of a probe on a device."""

    status: str | None
    reason: str | None
    failed: tuple[str, ...] = ()  # ids of checks
    left_out: tuple[str, ...] = ()  # the same


@dataclass(frozen=True)
class Word:
    """What a daemon says of its node."""

    verdict: Literal["sound", "failed", "unknown"]
    line: str  # why
    probes: Mapping[str, Sequence[OnDevice]]
    gpus: int = 0  # that probes run on
    of_host: frozenset[str] = frozenset()  # probes that ask for no device


def word_of(server: str) -> Word:
    """Ask a daemon; that it cannot be asked says nothing of the node."""
    try:
        ready = get(server, "/readyz", _ANSWER_S)
        line = ready.body[:_LINE_BYTES].decode(errors="replace").partition("\n")[0]
        if ready.status not in {200, 503}:
            return Word("unknown", f"{server} answered {ready.status}", {})
        if ready.status == 503 and not line.startswith("fail:"):
            return Word("unknown", line, {})
        listed = json.loads(get(server, "/api/v1/probes", _ANSWER_S).body)
        verdict: Literal["sound", "failed"] = "sound" if ready.status == 200 else "failed"
        return _word(verdict, line, listed)
    except NoAnswerError as error:
        return Word("unknown", str(error), {})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Word("unknown", f"{server} gave no list of probes: {error!r}", {})


def _word(verdict: Literal["sound", "failed"], line: str, listed: Any) -> Word:
    probes = {
        str(one["name"]): [
            OnDevice(
                _text(each["status"]),
                _text(each["reason"]),
                tuple(map(str, each.get("failed", ()))),  # a daemon of before has none
                tuple(map(str, each.get("left_out", ()))),
            )
            for each in one["devices"]
        ]
        for one in listed
    }
    devices = {str(each["device"]) for one in listed for each in one["devices"]}
    # An instance is called cuda:0:3, and is of the GPU cuda:0.
    gpus = {tuple(name.split(":")[:2]) for name in devices if ":" in name}
    of_host = frozenset(str(one["name"]) for one in listed if one["needs"] == "host")
    return Word(verdict, line, probes, len(gpus), of_host)


def _text(found: Any) -> str | None:
    return None if found is None else str(found)
