"""Builds faults of a device's memory, and of what counts its errors."""

from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import check_ids

_EVENTS: Final = {
    "stuck": Event(
        "a cell of the memory keeps one value, whatever is written",
        "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html",
    ),
    "aliased": Event(
        "an address line is broken: two addresses are one row of cells",
        "https://github.com/ComputationalRadiationPhysics/cuda_memtest",
    ),
    "unwritten": Event(
        "writes to a part of the memory are lost",
        "https://github.com/pytorch/pytorch/issues/87363",
    ),
    "fading": Event(
        "a weak cell loses its charge before it is refreshed",
        "https://github.com/ComputationalRadiationPhysics/cuda_memtest",
    ),
    "sluggish": Event(
        "a weak cell does not turn when its neighbours turn with it",
        "https://github.com/ComputationalRadiationPhysics/cuda_memtest",
    ),
    "sensitive": Event(
        "corruption that depends on the data",
        "https://arxiv.org/abs/2502.12340",
    ),
    "scarce": Event(
        "a process that died holds memory of the GPU",
        "https://github.com/pytorch/pytorch/issues/4424",
    ),
    "misread": Event(
        "a word is read wrong now and then, and the cells are right",
        "https://arxiv.org/abs/2605.04213",
    ),
}
BLIND: Final = Event(
    "a test that checks nothing passes",
    "https://github.com/wilicc/gpu-burn/issues/12",
)
_COUNTED: Final = Event(
    "error correction hides what is wrong, and counts it",
    "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html",
)

#: Injected first: trials run side by side on a GPU, and none may take all of its memory.
SMALL: Final = Injection("memory.small")


def on_memory(
    probe: str, kind: str, checks: str, *, spares: str = "", event: Event | None = None
) -> Fault:
    """A fault of the memory that a probe tests; `kind` is a function of `inject.memory`."""
    return Fault(
        name=f"{probe}.{kind}",
        kind="environment",
        where="any",
        event=event or _EVENTS[kind],
        inject=(SMALL, Injection(f"memory.{kind}")),
        trips=check_ids(probe, checks),
        spares=check_ids(probe, spares),
    )


def counted(probe: str, counter: str) -> Fault:
    """A counter of the GPU that rises while a probe tests its memory."""
    return Fault(
        name=f"{probe}.counts_{counter}",
        kind="environment",
        where="any",
        event=_COUNTED,
        inject=(SMALL, Injection("memory.counts", {"counter": counter})),
        trips=check_ids(probe, "error_counters"),
    )
