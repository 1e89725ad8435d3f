"""The faults for the checks of this probe."""

from dataclasses import replace
from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.memory import BLIND
from probes.faults.wrong_operation import LESS, MORE, check_ids, wrong_kernel, wrong_operation

_HOT: Final = Event(
    "a unit that computes wrong only when it is hot",
    "https://doi.org/10.1145/3600006.3613149",
)
_RARE: Final = Event(
    "some bits of one product of many",
    "https://arxiv.org/abs/2605.04213",
)
_HOST: Final = Event(
    "what is compared with is itself wrong on the device",
    "https://github.com/wilicc/gpu-burn",
)
_INTEGERS: Final = Event(
    "integer products of a library's new version are wrong",
    "https://github.com/pytorch/pytorch/issues/107671",
)

#: Injected first: what a fault spoils is copied to the host.
_SMALL: Final = Injection("comparing.small")

#: Products before a fault of a hot unit begins, and the distance of those of a rare one.
_AFTER: Final = 9
_EVERY: Final = 11


def _wrong(operators: str, spoil: str, checks: str, **options: Any) -> Fault:
    fault = wrong_operation("hot_products", operators, spoil, checks, **options)
    return replace(fault, name=f"hot_products.{fault.name}", inject=(_SMALL, *fault.inject))


def _kernel(operators: str, spoil: str, checks: str, **when: Any) -> Fault:
    fault = wrong_kernel("hot_products", operators, spoil, checks, **when)
    return replace(fault, name=f"hot_products.{fault.name}", inject=(_SMALL, *fault.inject))


def _comparing(name: str, checks: str, *, spares: str = "", event: Event = BLIND) -> Fault:
    """A comparison that sees nothing, or has something wrong beside it."""
    return Fault(
        name=f"hot_products.{name}",
        kind="environment",
        where="any",
        event=event,
        inject=(_SMALL, Injection(f"comparing.{name}")),
        trips=check_ids("hot_products", checks),
        spares=check_ids("hot_products", spares),
    )


FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("mm", "one_bit", "bfloat16", spares="planted", after=_AFTER, event=_HOT),
    _wrong("mm", "one_bit", "float16", every=_EVERY, event=_RARE),
    _wrong("mm", "swapped", "bfloat16", dtype="bfloat16"),
    _wrong("mm", "one_a_warp", "float32", dtype="float32", after=_AFTER, event=_HOT),
    _wrong("mm", "one_bit", "tf32", dtype="float32", event=_RARE),
    _wrong("mm", "nan", "float32", dtype="float32", every=_EVERY),
    _wrong("mm", "stale", "float32"),
    _wrong("mm", "scaled", "float64", dtype="float64", by=MORE),
    _wrong("mm", "narrowed", "float64", dtype="float64"),
    _kernel("mm", "one_bit", "float16 bfloat16"),
    _wrong("_int_mm", "one_bit", "int8", after=_AFTER, event=_INTEGERS),
    _wrong("_int_mm", "shifted", "int8", event=_INTEGERS),
    _wrong("_scaled_mm", "scaled", "float8", by=LESS),
    _wrong("_scaled_mm", "zeros", "float8"),
    _comparing("blind", "planted", spares="float32"),
    _comparing("idle", "planted float32 bfloat16"),
    _comparing("half", "planted float32 int8"),
    _comparing("other_rows", "float32 float64", event=_HOST),
    _comparing("misread", "float16", event=_RARE),
)
