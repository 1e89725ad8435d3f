"""Answers that do not come from torch, and the comparison of torch's answers with them.

Tolerances: only where rounding is inherent, and each names its source. `UNIT_ROUNDOFF` is half the
distance from 1 to the next number (IEEE 754); `dot_bound` is Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.tensors import bits

UNIT_ROUNDOFF = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    torch.complex64: 2.0**-24,
    torch.complex128: 2.0**-53,
}


def dot_bound(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], unit: float
) -> npt.NDArray[np.float64]:
    """Largest error of `a @ b` in any order of summation: gamma_K |a||b|, gamma_K = Ku/(1-Ku).

    Shapes: a (..., M, K), b (..., K, N) -> (..., M, N), in units of the result.
    """
    terms = a.shape[-1]
    gamma = terms * unit / (1 - terms * unit)
    return np.asarray(gamma * (np.abs(a) @ np.abs(b)))


def _python(value: Any) -> float | int | str:
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (complex, np.complexfloating)):
        return str(value)
    scalar = value.item() if hasattr(value, "item") else value
    return scalar if isinstance(scalar, (int, float)) else str(scalar)


def compare(
    operation: str,
    observed: torch.Tensor | npt.NDArray[Any],
    expected: npt.NDArray[Any],
    allowed: npt.NDArray[np.float64] | float | None = None,
) -> Comparison:
    """Hold an output against its NumPy reference, element by element.

    Without `allowed` the bits must be equal: -0.0 is not 0.0; a NaN equals any NaN, and only a NaN.
    With `allowed` (absolute, a scalar or of the output's shape) |observed - expected| must not
    exceed it; infinities must be equal and NaN must be where the reference has it.
    A bfloat16 output is held against a float32 reference that bfloat16 can represent.
    """
    if isinstance(observed, torch.Tensor):
        tensor = observed.detach().cpu().resolve_conj().resolve_neg()
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()  # exact: every bfloat16 is a float32
        seen = tensor.numpy()
    else:
        seen = np.asarray(observed)
    if seen.shape != expected.shape:
        return Comparison(
            operation=operation,
            problem=f"shape {list(seen.shape)} where {list(expected.shape)} is right",
        )
    if allowed is None and seen.dtype != expected.dtype:
        return Comparison(
            operation=operation, problem=f"dtype {seen.dtype} where {expected.dtype} is right"
        )
    if allowed is None:
        return _compare_bits(operation, seen, expected)
    return _compare_within(operation, seen, expected, allowed)


def _compare_bits(operation: str, seen: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Comparison:
    seen_bits = bits(torch.from_numpy(np.ascontiguousarray(seen)))
    expected_bits = bits(torch.from_numpy(np.ascontiguousarray(expected)))
    different = (seen_bits ^ expected_bits).reshape(*seen.shape, -1)
    wrong = different.any(axis=-1)
    if np.issubdtype(expected.dtype, np.inexact):
        wrong &= ~(np.isnan(seen) & np.isnan(expected))
    count = int(wrong.sum())
    if count == 0:
        return Comparison(operation=operation, elements=seen.size)
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    mask = int(different[first][np.flatnonzero(different[first])[0]])
    return Comparison(
        operation=operation,
        elements=seen.size,
        mismatches=count,
        first_index=first,
        worst_index=first,
        expected=_python(expected[first]),
        observed=_python(seen[first]),
        xor_mask=f"0x{mask:0{2 * seen_bits.itemsize}x}",
    )


def _compare_within(
    operation: str,
    seen: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    allowed: npt.NDArray[np.float64] | float,
) -> Comparison:
    wide = np.complex128 if np.iscomplexobj(expected) or np.iscomplexobj(seen) else np.float64
    left, right = seen.astype(wide), expected.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(left - right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    bound = np.broadcast_to(np.asarray(allowed, dtype=np.float64), error.shape)
    error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
    wrong = ~(error <= bound)
    count = int(wrong.sum())
    if count == 0:
        return Comparison(operation=operation, elements=seen.size)
    excess = np.where(wrong, error / np.maximum(bound, np.finfo(np.float64).tiny), -1.0)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), error.shape))
    return Comparison(
        operation=operation,
        elements=seen.size,
        mismatches=count,
        first_index=tuple(int(i) for i in np.argwhere(wrong)[0]),
        worst_index=worst,
        expected=_python(expected[worst]),
        observed=_python(seen[worst]),
        worst_error=float(error[worst]),
        allowed_error=float(bound[worst]),
    )
