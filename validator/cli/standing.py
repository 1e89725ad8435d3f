"""How far a run has come, by its events: what is done, what runs, and about how long it will be."""

import time
from collections.abc import Callable, Iterable
from typing import Final

from probes.catalog import BY_NAME
from probes.contract import ProbeSpec
from validator.engine.plan import Event

_USUAL_S: Final = 1.0  # of a probe that the catalogue does not know
#: For how many seconds of probes that are done the typical time stands: the first probes of a slow
#: machine are no measure of the others.
_PRIOR_S: Final = 5.0
#: What is expected of a probe that has taken longer than expected, as a share of what it took.
_OVERDUE: Final = 0.25

#: A probe on a device.
_Pair = tuple[str, str]


class Standing:
    """What is known of a run that goes on; one thread may ask while another takes events in."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin to count."""
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._planned: tuple[_Pair, ...] = ()  # () until the devices are known
        self._running: dict[_Pair, float] = {}  # since when
        self._took_s: dict[_Pair, float] = {}  # those that are done
        self._bad: dict[_Pair, None] = {}
        self._place = ""  # in a burn: which round
        self._usual_s: dict[_Pair, float] = {}  # what each took in the rounds before

    def take(self, event: Event) -> None:
        """Take in what the run tells."""
        pair = (event.probe, event.device)
        if event.kind == "round":
            self._place = event.text
            self._usual_s |= {done: took_s for done, took_s in self._took_s.items() if took_s}
            self._planned, self._running, self._took_s, self._bad = (), {}, {}, {}
        elif event.kind == "surveyed":
            self._planned = event.planned
        elif event.kind == "started":
            self._running[pair] = self._monotonic()
        elif event.kind == "finished":
            self._running.pop(pair, None)
            self._took_s[pair] = 0.0 if event.result is None else event.result.duration_s
            if event.result is not None and event.result.status in {"fail", "error"}:
                self._bad[pair] = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return self._monotonic() - self._began_s

    @property
    def place(self) -> str:
        """Which round of a burn goes on; empty where there are none."""
        return self._place

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of the plan; none until they are known."""
        return _devices(self._planned)

    def counts(self, device: str = "") -> tuple[int, int, int]:
        """How many probes are done, planned and failed; on one device, or on all."""
        planned = [pair for pair in self._planned if device in {"", pair[1]}]
        return (
            sum(pair in self._took_s for pair in planned),
            len(planned),
            sum(pair in self._bad for pair in planned),
        )

    def running(self, device: str = "") -> list[tuple[str, str, float]]:
        """What runs, the longest first: probe, device, seconds; on one device, or on all."""
        now_s = self._monotonic()
        return [
            (probe, where, now_s - since_s)
            for (probe, where), since_s in list(self._running.items())
            if device in {"", where}
        ]

    def remaining_s(self) -> float | None:
        """About how many seconds are left; None before the devices are known, 0 at the end.

        Probes take what they took in the round before, else what they took elsewhere, times what
        those took longer that are done. Devices work side by side, and on each as many probes as
        run there now.
        """
        planned = self._planned  # another thread may begin a round meanwhile
        if not planned:
            return None
        done = list(self._took_s.items())
        actual_s = sum(took_s for _, took_s in done if took_s)
        typical_s = sum(self._typical_s(pair) for pair, took_s in done if took_s)
        slowness = (actual_s + _PRIOR_S) / (typical_s + _PRIOR_S)
        left = [pair for pair in planned if pair not in self._took_s]
        return max(
            self._remaining_on_s(device, [pair for pair in left if pair[1] == device], slowness)
            for device in _devices(planned)
        )

    def _remaining_on_s(self, device: str, left: list[_Pair], slowness: float) -> float:
        beside = [pair for pair in left if not _is_alone(pair[0])]
        rows = max(1, len(self.running(device)))
        alone_s = sum(self._left_s(pair, slowness) for pair in left if pair not in beside)
        each_s = [self._left_s(pair, slowness) for pair in beside]
        return alone_s + max(sum(each_s) / rows, max(each_s, default=0.0))

    def _left_s(self, pair: _Pair, slowness: float) -> float:
        expected_s = self._typical_s(pair) * slowness
        since_s = self._running.get(pair)
        if since_s is None:
            return expected_s
        took_s = self._monotonic() - since_s
        return max(expected_s - took_s, _OVERDUE * took_s)

    def _typical_s(self, pair: _Pair) -> float:
        usual_s = self._usual_s.get(pair)
        return _typical_s(pair[0]) if usual_s is None else usual_s


def _devices(planned: Iterable[_Pair]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(device for _, device in planned))


def _spec(probe: str) -> ProbeSpec | None:
    return BY_NAME.get(probe)


def _typical_s(probe: str) -> float:
    spec = _spec(probe)
    return _USUAL_S if spec is None else spec.typical_s


def _is_alone(probe: str) -> bool:
    spec = _spec(probe)
    return spec is not None and spec.alone


def rounded(seconds: float) -> str:
    """Seconds as nobody takes them for exact: `7 s`, `25 s`, `3 min`."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 120:
        return f"{5 * round(seconds / 5)} s"
    return f"{round(seconds / 60)} min"


def left(standing: Standing) -> str:
    """How long it will be, in words; "" where that is not known."""
    seconds, place = standing.remaining_s(), standing.place
    return f"about {rounded(seconds)} left{f' of {place}' if place else ''}" if seconds else ""


def names(running: Iterable[tuple[str, str, float]], *, places: bool = False) -> str:
    """What runs, each with its seconds once there are some, and its place where asked for."""
    return ", ".join(
        f"{probe}{f' on {device}' if places else ''}{f' {seconds:.0f} s' if seconds >= 1 else ''}"
        for probe, device, seconds in running
    )
