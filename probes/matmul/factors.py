"""Pairs of integer matrices whose product is exact in each type, in every order of summation.

The magnitudes of all terms of an element add up to no more than what the type holds exactly, so
that partial sums kept in the type itself, as a split sum may do, are exact too.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit.case import NUMPY_OF, Array, on_device
from probes.kit.operands import integers
from probes.kit.precision import float64_shortened_by
from probes.kit.references import compare
from probes.kit.second_read import copied
from probes.kit.tensors import poisoned
from probes.kit.trial import LeftOut, fact

F64: Final = np.float64

#: Columns of an operand are drawn anew for so many terms, and then repeat: a prime.
_PERIOD: Final = 1021


#: Factors that are kept: all of a family in one type, which each library multiplies.
_KEPT: Final = 16


class Span(NamedTuple):
    """The largest magnitude of an operand, and of the sum of the terms' magnitudes."""

    largest: int
    limit: int

    def part(self, share: int) -> "Span":
        """The same operands, with sums no larger than a share of the limit."""
        return Span(self.largest, self.limit // share)


#: Type of the operands and the result -> integers that it and its products hold. TF32 holds those
#: of float32 too.
SPANS: Final = {
    torch.float64: Span(2**19, 2**53),
    torch.float32: Span(127, 2**24),
    torch.float16: Span(5, 2**11),
    torch.bfloat16: Span(2, 2**8),
}


class Factors(NamedTuple):
    """Two matrices and their product, in float64; read-only."""

    a: npt.NDArray[np.float64]  # (m, k)
    b: npt.NDArray[np.float64]  # (k, n)
    product: npt.NDArray[np.float64]  # (m, n)

    def on(self, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Both matrices on a device."""
        return on_device(self.a, device, dtype), on_device(self.b, device, dtype)


@lru_cache(maxsize=_KEPT)
def factors(m: int, k: int, n: int, span: Span, salt: int = 0) -> Factors:
    """Factors of a product (m, k) @ (k, n) within the span.

    Where all terms would be too many, each column of the second factor has that many elements that
    are not 0, spread over its length.
    """
    low, high = -span.largest, span.largest
    repeated = np.arange(k) % _PERIOD
    a = integers((m, min(k, _PERIOD)), low, high, 400 + salt, F64)[:, repeated]
    drawn = integers((min(k, _PERIOD), n), low, high, 401 + salt, F64)
    terms = max(1, span.limit // span.largest**2)
    if terms < k:
        columns = np.arange(n)
        rows = (np.arange(terms)[:, None] * (k // terms) + 7919 * columns) % k  # (terms, n)
        b = np.zeros((k, n))
        b[rows, columns] = drawn[rows % _PERIOD, columns]
    else:
        b = drawn[repeated]
    for each in (a, b):
        each.setflags(write=False)
    return Factors(a, b, a @ b)


def text(dtype: torch.dtype) -> str:
    """A type's name as labels have it."""
    return str(dtype).removeprefix("torch.")


def same(label: str, found: torch.Tensor, right: Array, dtype: torch.dtype) -> Comparison:
    """Compare type, shape and bits; the sign of a zero, which no order of summation promises, not.

    `right` is exact in the type.

    Raises:
        LeftOut: the user has float64 shortened.
    """
    if dtype == torch.float64 and (why := float64_shortened_by(str(found.device))):
        raise LeftOut(f"float64 is shortened by {why}")
    if found.dtype != dtype:
        return fact(label, text(found.dtype), text(dtype))
    observed = copied(found, _on_host)
    return compare(label, observed, right.astype(observed.dtype) + 0)


def _on_host(found: torch.Tensor) -> Array:
    """A tensor as an array without -0; of a type that NumPy does not have, in float32."""
    host = found.detach().cpu()
    known = host.dtype in NUMPY_OF and host.dtype != torch.bfloat16
    # Of no axis the sum is no array.
    return np.asarray((host if known else host.float()).numpy() + 0)


def into(
    call: Callable[..., Any], *operands: Any, like: Array, dtype: torch.dtype, **options: Any
) -> torch.Tensor:
    """The result of a call that writes to poisoned memory by `out=`."""
    out = poisoned(like.shape, dtype, str(operands[-1].device))
    call(*operands, **options, out=out)
    return out
