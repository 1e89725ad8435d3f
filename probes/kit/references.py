"""Comparison of torch's outputs with references that do not come from torch.

A tolerance is used only where rounding is inherent, and names its source. `UNIT_ROUNDOFF` is half
the distance from 1 to the next number (IEEE 754); `dot_bound` is Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit import breadcrumb, second_read
from probes.kit.capabilities import documented_absence
from probes.kit.mismatch import pattern

UNIT_ROUNDOFF = {
    torch.float64: 2.0**-53,
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    torch.complex64: 2.0**-24,
    torch.complex128: 2.0**-53,
}

#: From here on a comparison of words costs less than two copies.
_LARGE_BYTES = 1 << 16
_WORD = np.dtype(np.uint64)

#: Floating dtypes that NumPy does not have; float32 can represent each of their values.
_WITHOUT_NUMPY = {torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}


def dot_bound(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], unit: float
) -> npt.NDArray[np.float64]:
    """Largest error of `a @ b` in any order of summation: gamma_K |a||b|, gamma_K = Ku/(1-Ku).

    Shapes: a (..., M, K), b (..., K, N) -> (..., M, N), in units of the result. It bounds the error
    against the exact product: a reference rounded with the same unit may be as far off again.

    Raises:
        ValueError: K units are 1 or more, where no bound holds.
    """
    terms = a.shape[-1]
    if terms * unit >= 1:
        raise ValueError(f"no bound for a sum of {terms} terms with unit roundoff {unit}")
    gamma = terms * unit / (1 - terms * unit)
    return np.asarray(gamma * (np.abs(a) @ np.abs(b)))


def _python_number(value: Any) -> float | int | str:
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
    """Compare an output with its NumPy reference, element by element.

    Without `allowed` dtype and bits must be equal: -0.0 is not 0.0; a NaN equals any NaN, and only
    a NaN (the parts of a complex number are compared separately).
    With `allowed` (absolute, a scalar or of the output's shape) |observed - expected| must not
    exceed it; infinities must be equal and NaN must be where the reference has it. Integers beyond
    2^53 need the comparison of bits.
    A bfloat16 or float8 output is compared with a float32 reference that it can represent.
    """
    if isinstance(observed, torch.Tensor):
        output = second_read.copied(observed, _on_host)
    else:
        output = np.asarray(observed)
    if output.shape != expected.shape:
        return Comparison(
            operation=operation,
            problem=f"shape {list(output.shape)} where {list(expected.shape)} is right",
        )
    if allowed is None and output.dtype != expected.dtype:
        return Comparison(
            operation=operation, problem=f"dtype {output.dtype} where {expected.dtype} is right"
        )
    if output.dtype == expected.dtype and _same_bits(output, expected):
        # Right by both rules, and fast.
        return Comparison(operation=operation, elements=output.size)
    found = _compared(operation, output, expected, allowed)
    if found.pattern is None:
        return found
    second = second_read.again(output)
    if second is None:
        return found
    if second.tobytes() == output.tobytes():
        told = "same"
    else:
        told = "right" if _compared(operation, second, expected, allowed).holds else "different"
    seen = found.pattern.model_copy(update={"second_read": told})
    return found.model_copy(update={"pattern": seen})


def _on_host(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor as an array; of a type that NumPy does not have, in float32."""
    if tensor.dtype in _WITHOUT_NUMPY:
        tensor = tensor.detach().cpu().float()  # exact
    array: npt.NDArray[Any] = tensor.numpy(force=True)  # as detached, on the host, resolved
    return array


def _compared(
    operation: str,
    output: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    allowed: npt.NDArray[np.float64] | float | None,
) -> Comparison:
    if allowed is None:
        return _compare_bits(operation, output, expected)
    return _compare_within(operation, output, expected, allowed)


def _same_bits(output: npt.NDArray[Any], expected: npt.NDArray[Any]) -> bool:
    """Whether two arrays of one shape and type are the same; without a copy of large ones."""
    if output.nbytes < _LARGE_BYTES or output.nbytes % _WORD.itemsize:
        return output.tobytes() == expected.tobytes()
    if not (output.flags.c_contiguous and expected.flags.c_contiguous):
        return output.tobytes() == expected.tobytes()
    return bool((output.reshape(-1).view(_WORD) == expected.reshape(-1).view(_WORD)).all())


def _parts(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array with a new last axis of real parts: length 2 for complex numbers, else 1."""
    real = array.real.dtype
    parts = array.dtype.itemsize // real.itemsize
    return np.ascontiguousarray(array).view(real).reshape(*array.shape, parts)


def _distance(output: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """|output - expected| of each element; infinite where that is NaN."""
    wide = np.complex128 if np.iscomplexobj(expected) or np.iscomplexobj(output) else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(output.astype(wide) - expected.astype(wide))
    return np.where(np.isnan(error), np.inf, error)


def _compare_bits(
    operation: str, output: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> Comparison:
    # Only with NumPy: a fault of torch's memory sharing would change both sides alike.
    left, right = _parts(output), _parts(expected)  # (..., parts)
    word = np.dtype(f"u{right.dtype.itemsize}")
    different = left.view(word) ^ right.view(word)
    if np.issubdtype(right.dtype, np.inexact):
        different[np.isnan(left) & np.isnan(right)] = 0
    wrong = different.any(axis=-1)
    count = int(wrong.sum())
    if count == 0:
        return Comparison(operation=operation, elements=output.size)
    distance = np.where(wrong, _distance(output, expected), -1.0)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(distance)), output.shape))
    mask = int(different[worst][np.flatnonzero(different[worst])[0]])
    seen = pattern(wrong, different)
    return Comparison(
        operation=operation,
        elements=output.size,
        mismatches=count,
        first_index=seen.first[0],
        worst_index=worst,
        expected=_python_number(expected[worst]),
        observed=_python_number(output[worst]),
        xor_mask=f"0x{mask:0{2 * word.itemsize}x}",
        pattern=seen,
    )


def _compare_within(
    operation: str,
    output: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    allowed: npt.NDArray[np.float64] | float,
) -> Comparison:
    nan = np.isnan(output) & (np.isnan(_parts(output)) == np.isnan(_parts(expected))).all(axis=-1)
    same = (output == expected) | nan
    error = np.where(same, 0.0, _distance(output, expected))
    bound = np.broadcast_to(np.asarray(allowed, dtype=np.float64), error.shape)
    # An infinite bound, as from a reference that overflowed, allows no infinity.
    wrong = ~same & ~((error <= bound) & np.isfinite(error))
    count = int(wrong.sum())
    if count == 0:
        return Comparison(operation=operation, elements=output.size)
    with np.errstate(over="ignore", invalid="ignore"):
        share = error / np.maximum(bound, np.finfo(np.float64).tiny)
    excess = np.where(wrong, np.where(np.isnan(share), np.inf, share), -1.0)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), error.shape))
    seen = pattern(wrong)
    return Comparison(
        operation=operation,
        elements=output.size,
        mismatches=count,
        first_index=seen.first[0],
        worst_index=worst,
        expected=_python_number(expected[worst]),
        observed=_python_number(output[worst]),
        worst_error=float(error[worst]),
        allowed_error=float(bound[worst]),
        pattern=seen,
    )


def attempted_all(
    operation: str,
    call: Callable[[], Iterable[Comparison]],
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> list[Comparison]:
    """Run a call and return its comparisons, and one more with the error if it raises.

    An error that is a documented absence of the device, for operands of `dtype`, is recorded in
    `lacking`, not as a problem.

    Raises:
        torch.cuda.OutOfMemoryError: others may use the memory, which only the worker knows.
    """
    comparisons: list[Comparison] = []
    breadcrumb.operation(operation)
    try:
        comparisons.extend(call())
    except torch.cuda.OutOfMemoryError:  # before torch 2.5 this is the class of every back-end
        raise
    except (
        RuntimeError,
        TypeError,
        ValueError,
        BufferError,
        LookupError,
        AssertionError,
        AttributeError,
        ArithmeticError,
    ) as error:
        comparisons.append(_raised(operation, error, device, dtype))
    return comparisons


def _raised(operation: str, error: Exception, device: str, dtype: torch.dtype | None) -> Comparison:
    text = str(error).splitlines()[0] if str(error) else ""
    why = documented_absence(error, device, dtype)
    problem = "" if why else f"raised {type(error).__name__}: {text}"
    return Comparison(operation=operation, problem=problem, lacking=why)


def attempted(
    operation: str,
    call: Callable[[], Comparison],
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> Comparison:
    """`attempted_all` for a call that makes one comparison."""
    return attempted_all(operation, lambda: [call()], device, dtype)[0]


def fact(operation: str, observed: object, expected: object) -> Comparison:
    """A comparison of one value that must be equal."""
    if observed == expected:
        return Comparison(operation=operation, elements=1)
    return Comparison(operation=operation, problem=f"{observed} where {expected} is right")
