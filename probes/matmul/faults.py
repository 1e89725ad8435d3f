"""The faults for the checks of this probe."""

from dataclasses import replace
from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import LESS, MORE, check_ids, wrong_kernel, wrong_operation

_SIZE: Final = Event(
    "a kernel that is wrong for some sizes alone",
    "https://github.com/pytorch/pytorch/issues/22078",
)
_LAYOUT: Final = Event(
    "a product that does not heed how an operand is stored",
    "https://github.com/pytorch/pytorch/issues/136299",
)
_SCALES: Final = Event(
    "scales of a product are not applied as asked for",
    "https://github.com/pytorch/pytorch/issues/136299",
)
_TF32: Final = Event(
    "float32 products are shortened to TF32 though it is not allowed",
    "https://github.com/pytorch/pytorch/issues/84334",
)
_SWALLOWED: Final = Event(
    "a NaN that is swallowed hides what went wrong",
    "https://github.com/wilicc/gpu-burn/issues/12",
)
_INTEGERS: Final = Event(
    "integer products of a library's new version are wrong",
    "https://github.com/pytorch/pytorch/issues/107671",
)
_PARTS: Final = Event(
    "a part of a split sum is not added",
    "https://docs.nvidia.com/cuda/cublas/",
)

#: The smallest error that half types must show.
_BY: Final = 1.05


def _wrong(operators: str, spoil: str, checks: str, **options: Any) -> Fault:
    fault = wrong_operation("matmul", operators, spoil, checks, **options)
    return replace(fault, name=f"matmul.{fault.name}")


def _kernel(operators: str, spoil: str, checks: str, **when: Any) -> Fault:
    fault = wrong_kernel("matmul", operators, spoil, checks, **when)
    return replace(fault, name=f"matmul.{fault.name}")


def _asked(
    name: str, function: str, checks: str, event: Event, *, spares: str = "", **arguments: Any
) -> Fault:
    """A product that ignores what it was asked for."""
    return Fault(
        name=f"matmul.{name}",
        kind="semantics",
        where="any",
        event=event,
        inject=(Injection(function, arguments),),
        trips=check_ids("matmul", checks),
        spares=check_ids("matmul", spares),
    )


_MM: Final = ("mm",)
_ADDMM: Final = ("addmm", "addmm_")
_BADDBMM: Final = ("baddbmm",)

FAULTS: Final[tuple[Fault, ...]] = (
    _wrong("mm", "one_bit", "shapes layouts"),
    _wrong("mm", "scaled", "shapes", by=MORE, event=_SIZE),
    _wrong("mm", "one_a_warp", "shapes", large=True, event=_SIZE),
    _wrong("mm", "stale", "layouts"),
    _wrong("mm", "nan", "many_terms", dtype="bfloat16"),
    _wrong("mv", "swapped", "shapes", dtype="float64"),
    _kernel("addmv", "zeros", "shapes"),
    _asked("layout_ignored", "products.layout_ignored", "layouts", _LAYOUT, operators=_MM),
    _asked(
        "terms_lost",
        "products.terms_lost",
        "many_terms",
        _PARTS,
        spares="layouts",
        operators=_MM,
        most=2048,
    ),
    _wrong("bmm", "one_bit", "batches", spares="layouts"),
    _wrong("bmm", "stale", "batches"),
    _asked(
        "batch_layout_ignored",
        "products.layout_ignored",
        "batches",
        _LAYOUT,
        operators=("bmm",),
    ),
    _wrong("addmm addmm_", "scaled", "added", by=LESS, dtype="float64"),
    _wrong("baddbmm", "one_bit", "added", dtype="bfloat16"),
    _kernel("addmm", "one_a_warp", "added"),
    _asked(
        "alpha_ignored",
        "products.scale_ignored",
        "added",
        _SCALES,
        operators=_ADDMM,
        scale="alpha",
    ),
    _asked(
        "beta_ignored",
        "products.scale_ignored",
        "added",
        _SCALES,
        operators=_BADDBMM,
        scale="beta",
    ),
    _asked("addend_not_ignored", "products.addend_not_ignored", "added", _SCALES, operators=_ADDMM),
    _asked("bias_lost", "products.bias_lost", "added", _SCALES, operators=_ADDMM),
    _wrong("mm", "swallowed", "not_finite", spares="layouts", event=_SWALLOWED),
    _asked(
        "tf32",
        "operations.shortened",
        "float32",
        _TF32,
        spares="layouts",
        operators=("mm", "addmm", "bmm", "baddbmm", "mv", "addmv"),
        bits=10,
    ),
    _wrong("bmm", "scaled", "float32", by=MORE, dtype="float32", event=_TF32),
    _wrong("_int_mm", "one_bit", "int8", event=_INTEGERS),
    _wrong("_scaled_mm", "scaled", "float8", by=_BY),
    _wrong("_scaled_mm", "swallowed", "float8", event=_SWALLOWED),
    _asked(
        "operand_scales_ignored",
        "products.operand_scales_ignored",
        "float8",
        _SCALES,
        operators=("_scaled_mm",),
    ),
    _asked(
        "other_result_type",
        "products.other_result_type",
        "float8",
        _SCALES,
        operators=("_scaled_mm",),
        dtype="bfloat16",
    ),
    _wrong("mm", "one_bit", "out_dtype", dtype="float32"),
    _asked(
        "rounded_result",
        "products.rounded_result",
        "out_dtype",
        _SCALES,
        operators=_MM,
    ),
)
