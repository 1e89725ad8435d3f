"""How long a run waits for the probes of a device on which one has timed out.

A device that hangs would cost the deadline of every probe on it; a quick check is to be over in
75 s. So after a first timeout the device's other probes get 10 s at most, those that are under way
included, and after a second timeout in a row the rest are not run.
"""

from typing import Final

from probes.contract import ProbeSpec
from validator.engine.clock import now
from validator.report import CPU

#: Deadline of a probe on a device where one has timed out before, in seconds.
SHORTENED_S: Final = 10.0
#: A quick check on a device that hangs is over by then, in seconds from its start.
_QUICK_CHECK_S: Final = 75.0
#: Of that, for killing children and for the report.
_END_S: Final = 2.0
#: The shortest deadline that a late start leaves: a healthy probe needs less.
_LEAST_S: Final = 5.0
_IN_A_ROW: Final = 2


class DeviceHangs:
    """The timeouts of one run, by the device's name, and the deadlines that follow from them."""

    def __init__(self) -> None:
        """Create a record without hangs; the 75 s of a quick check count from now."""
        self._began_s = now()
        self._hung_s: dict[str, float] = {}  # when a probe there first timed out
        self._in_a_row: dict[tuple[str, object], int] = {}  # by device and row of jobs
        self._given_up: set[str] = set()

    def deadline_s(self, spec: ProbeSpec, device: str, own_s: float) -> float:
        """The deadline in seconds of a probe that starts now and has `own_s` on a sound device."""
        if device not in self._hung_s:
            return own_s
        if spec.is_heavy:
            return min(own_s, SHORTENED_S)
        left_s = self._began_s + _QUICK_CHECK_S - _END_S - now()
        return min(own_s, SHORTENED_S, max(_LEAST_S, left_s))

    def shortened_deadline_s(self, device: str, started_s: float, deadline_s: float) -> float:
        """The deadline in seconds of a probe under way, shorter when another has timed out."""
        hung_s = self._hung_s.get(device)
        if hung_s is None or started_s > hung_s:
            return deadline_s
        return min(deadline_s, hung_s + SHORTENED_S - started_s)

    def record_timeout(self, device: str, row: object) -> None:
        """Count a timeout of a row, whose jobs follow one another.

        On the CPU rows count apart: what hangs in one says nothing about the others. A GPU is one
        thing, and an answer in any row is its answer.
        """
        self._hung_s.setdefault(device, now())
        key = (device, row if device == CPU.name else None)
        self._in_a_row[key] = self._in_a_row.get(key, 0) + 1
        if self._in_a_row[key] >= _IN_A_ROW:
            self._given_up.add(device)

    def record_answer(self, device: str, row: object) -> None:
        """Count from zero again: a probe came to its end, so the device does not hang for good."""
        self._in_a_row[device, row if device == CPU.name else None] = 0

    def is_given_up(self, device: str) -> bool:
        """Whether nothing more is started there."""
        return device in self._given_up
