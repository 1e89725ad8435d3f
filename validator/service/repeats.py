"""Warnings and errors that come again and again: said once, then with a count, ever more rarely."""

import threading
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

#: Held back after an event was said; doubled each time that it is said again.
_FIRST_S: Final = 1.0
_LONGEST_S: Final = 3600.0

#: An event that kept away for so long is new.
_QUIET_S: Final = 60.0

#: Events that are remembered; the one that came last the longest ago makes room.
_MOST: Final = 64

_LEVELS: Final = frozenset({"warning", "error", "critical"})


@dataclass
class _Known:
    """What is known of an event."""

    event: dict[str, Any]
    said_s: float
    seen_s: float
    hold_s: float = _FIRST_S
    held: int = 0  # times since it was said


class Repeats:
    """A structlog processor that holds back what was said already."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Create it; no event is known."""
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """The event, with `repeated` where it was held back before; `DropEvent` to hold it back."""
        if event.get("level") not in _LEVELS or "repeated" in event:
            return event
        with self._lock:
            return self._seen(event)

    def _seen(self, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        key, now = repr(event), self._monotonic()
        known = self._known.pop(key, None)
        if known is None or (not known.held and now - known.seen_s >= _QUIET_S):
            known = _Known(dict(event), now, now)
            if len(self._known) >= _MOST:
                self._known.pop(next(iter(self._known)))
            self._known[key] = known
            return event
        self._known[key] = known
        known.seen_s = now
        known.held += 1
        if now - known.said_s < known.hold_s:
            raise structlog.DropEvent
        return self._say(known, now)

    def overdue(self, *, all_of_them: bool = False) -> list[dict[str, Any]]:
        """Events that were held back and did not come again in time to be counted."""
        now = self._monotonic()
        with self._lock:
            self._known = {
                key: known
                for key, known in self._known.items()
                if known.held or now - known.seen_s < _QUIET_S
            }
            return [
                self._say(known, now)
                for known in self._known.values()
                if known.held and (all_of_them or now - known.said_s >= known.hold_s)
            ]

    def _say(self, known: _Known, now: float) -> dict[str, Any]:
        said = {**known.event, "repeated": known.held}
        known.said_s, known.held = now, 0
        known.hold_s = min(2 * known.hold_s, _LONGEST_S)
        return said
