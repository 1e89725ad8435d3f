"""What must trip each check of this probe: another mode of the processor, or of one library."""

from typing import Final

from probes.faults.fault import Event, Fault, Injection

_FAST_MATH: Final = Event(
    "a library built with -ffast-math, which flushes subnormal numbers",
    "https://github.com/ashvardanian/NumKong/issues/328",
)
_ROUNDING: Final = Event(
    "a library that changes the direction of rounding, and does not restore it",
    "https://man7.org/linux/man-pages/man3/fenv.3.html",
)
_TRAPS: Final = Event(
    "a library that turns exceptions of the processor into signals",
    "https://man7.org/linux/man-pages/man3/fenv.3.html",
)
_ALL: Final = ("python", "numpy", "torch")


def _fault(name: str, event: Event, checks: tuple[str, ...], injection: Injection) -> Fault:
    return Fault(
        name=f"float_mode.{name}",
        kind="environment",
        where="host",
        event=event,
        inject=(injection,),
        trips=tuple(f"float_mode.{check}" for check in checks),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _fault(
        "flushed",
        _FAST_MATH,
        tuple(f"{library}_subnormals" for library in _ALL),
        Injection("modes.flushes"),
    ),
    _fault(
        "flushed_in_torch",
        _FAST_MATH,
        ("torch_subnormals",),
        Injection("modes.flushes_in_torch"),
    ),
    _fault("traps", _TRAPS, ("exceptions",), Injection("modes.traps")),
    *(
        _fault(f"rounds_{way}", _ROUNDING, ("rounding",), Injection("modes.rounds", {"way": way}))
        for way in ("up", "down", "to_zero")
    ),
)
