"""Builds faults of single operations: one that gives wrong values, in one of several patterns."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_SILENT: Final = Event(
    "silent data corruption in a compute unit: some bits of some elements, some of the time",
    "https://arxiv.org/abs/2605.04213",
)
_LANE: Final = Event(
    "one lane of every warp computes wrong",
    "https://arxiv.org/abs/2502.12340",
)
_ZEROS: Final = Event(
    "a kernel that writes nothing: small products came out as zeros",
    "https://github.com/pytorch/pytorch/issues/57347",
)
_KERNEL: Final = Event(
    "a kernel of a new version or architecture that is wrong in some elements",
    "https://github.com/pytorch/pytorch/issues/22078",
)
_UNSUPPORTED: Final = Event(
    "an architecture that is forced on another's code gives NaN and garbage",
    "https://github.com/vladmandic/sdnext/issues/1805",
)
STALE: Final = Event(
    "a kernel that leaves what its memory held before",
    "https://github.com/pytorch/pytorch/issues/86465",
)
_EVENTS: Final = {
    "zeros": _ZEROS,
    "garbage": _ZEROS,
    "one_bit": _SILENT,
    "one_a_warp": _LANE,
    "nan": _UNSUPPORTED,
    "stale": STALE,
}


#: Injected first: TF32 is a fault only where the settings forbid it.
FULL_PRECISION: Final = Injection("calls.full_precision")


def check_ids(probe: str, checks: str) -> tuple[str, ...]:
    """The ids of a probe's checks, which are separated by spaces."""
    return tuple(f"{probe}.{check}" for check in checks.split())


def wrong_operation(
    probe: str,
    operators: str,
    spoil: str,
    checks: str,
    *,
    event: Event | None = None,
    spares: str = "",
    **when: Any,
) -> Fault:
    """A fault of one operation, which trips these checks of the probe.

    Args:
        probe: the probe that must notice.
        operators: as torch's dispatcher names them, alternatives of one operation together.
        spoil: the pattern, one of `probes.faults.inject.patterns`.
        checks: the names of the checks that must trip.
        event: what it stands for; by default what the pattern does.
        spares: the names of the checks that must not trip.
        when: on which calls, as `probes.faults.inject.operations.wrong` takes it.
    """
    names = tuple(operators.split())
    parts = [names[0].strip("_"), spoil + (f"_{when['by']:g}" if "by" in when else "")]
    parts += [
        str(value if isinstance(value, str) else key) for key, value in when.items() if key != "by"
    ]
    return Fault(
        name=".".join(parts),
        kind="operation",
        where="any",
        event=event or _EVENTS.get(spoil, _KERNEL),
        inject=(
            *((FULL_PRECISION,) if "float32_" in checks else ()),
            Injection("operations.wrong", {"operators": names, "spoil": spoil, **when}),
        ),
        trips=check_ids(probe, checks),
        spares=check_ids(probe, spares),
    )


def wrong_kernel(
    probe: str,
    operators: str | tuple[str, ...],
    spoil: str,
    checks: str,
    *,
    event: Event | None = None,
    **when: Any,
) -> Fault:
    """A fault of an operation's kernel on the device, below Python and autograd.

    The arguments are those of `wrong_operation`.
    """
    names = tuple(operators.split()) if isinstance(operators, str) else operators
    arguments = {"operators": names, "spoil": spoil, **when}
    return Fault(
        name=f"kernel.{names[0].strip('_')}.{spoil}",
        kind="operation",
        where="any",
        event=event or _EVENTS.get(spoil, _KERNEL),
        inject=(Injection("kernels.wrong", arguments, on_device=True),),
        trips=check_ids(probe, checks),
    )


#: Factors of `scaled`: a thousandth too large, and too small.
MORE: Final = 1.001
LESS: Final = 0.999
