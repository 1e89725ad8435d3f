"""A report with all observations that can be given away: what identifies a node is replaced.

Kept, since verdicts depend on them: versions, models, PCI addresses, paths of libraries, and the
environment variables that probes look at.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from validator.report import Report

#: UUIDs of GPUs and MIG instances, with or without their prefix.
_UUID: Final = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
#: Folders of people: their names are no matter of ours.
_HOME: Final = re.compile(r"(?<![\w.])/(home|Users)/[^/\s:\"']+")
#: In what was printed; elsewhere four numbers are a version.
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")

_HOST: Final = "node"
_NO_RUN: Final = "0" * 32


def anonymous(report: Report) -> Report:
    """The report with host, UUIDs, people's folders and addresses replaced, alike everywhere."""
    replace = _Identities(report)
    known = report.model_dump(mode="json")
    changed = replace.everywhere({**known, "host": _HOST, "run_id": _NO_RUN})
    for result in changed["results"]:
        result["log_tail"] = _IPV4.sub("192.0.2.1", result["log_tail"])  # RFC 5737: documentation
    return Report.model_validate(changed)


class _Identities:
    """The replacements of one report: the same identity is the same number wherever it stands."""

    def __init__(self, report: Report) -> None:
        self._uuids: dict[str, str] = {}
        # A name of one letter, or one such as `gpu`, would be found inside other words.
        whole = rf"(?<![\w.-]){re.escape(report.host)}(?![\w-])"
        self._host = re.compile(whole) if len(report.host) > 2 else None

    def everywhere(self, value: Any) -> Any:
        """The value with every text in it replaced, keys of dictionaries too."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.everywhere(item) for item in value]
        if isinstance(value, dict):
            return dict(self._pairs(value))
        return value

    def _pairs(self, value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, item in value.items():
            yield self._text(key), self.everywhere(item)

    def _text(self, text: str) -> str:
        text = _UUID.sub(lambda match: self._uuid(match[0].lower()), text)
        text = _HOME.sub(r"/\1/user", text)
        return self._host.sub(_HOST, text) if self._host is not None else text

    def _uuid(self, uuid: str) -> str:
        number = len(self._uuids) + 1
        return self._uuids.setdefault(uuid, f"00000000-0000-0000-0000-{number:012d}")
