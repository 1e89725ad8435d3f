"""The types of products, and how a device makes their operands and multiplies them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from probes.hot_products.operands import PERIOD, Pattern
from probes.kit.capabilities import back_end
from probes.kit.narrow_products import float8_products, int8_products, scaled
from probes.kit.precision import float64_shortened_by, full_precision, tf32_allowed
from probes.kit.trial import LeftOut

#: First rows of the operand: the result of a product is never that of the one before.
FIRST_ROWS: Final = (0, 61, 128, 17)

#: Operands in float64 are times that, so that float32 does not hold them.
_WIDE: Final = 1 + 2.0**-26


@dataclass(frozen=True)
class Kind:
    """A type of operands, of their result, and what holds while it is tried."""

    name: str
    operand: torch.dtype
    result: torch.dtype
    within: Callable[[str], AbstractContextManager[None]]
    by_columns: bool = False  # how the second factor is stored

    @property
    def scale(self) -> float:
        """What the integers are times, in operand and result."""
        return _WIDE if self.operand == torch.float64 else 1.0

    def bytes_needed(self, n: int) -> int:
        """Of two operands and a result of n rows and columns."""
        return n * n * (2 * self.operand.itemsize + self.result.itemsize)

    def factors(self, of: Pattern, n: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The first factor with the rows for every turn, and the second: (n + 128, n), (n, n)."""
        rows = torch.arange(n + max(FIRST_ROWS), device=device) % PERIOD
        a = torch.from_numpy(of.a.copy()).to(device).index_select(0, rows)
        columns = torch.arange(n, device=device) % PERIOD
        turned = torch.from_numpy(np.ascontiguousarray(of.b.T)).to(device)
        b = turned.index_select(0, columns)  # by columns
        if not self.by_columns:
            b = b.t().contiguous()
        left, right = self._typed(a, self.scale), self._typed(b, 1.0)
        return left, right.t() if self.by_columns else right

    def _typed(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        if self.operand == torch.float8_e4m3fn:
            x = x.to(torch.float16)
        typed = x.to(self.operand)
        return typed.mul_(scale) if scale != 1 else typed

    def multiply(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The product, in `out` where the operation takes it."""
        if self.operand == torch.float8_e4m3fn:
            return scaled(a, b, self.result, (1.0, 1.0))
        call: Any = torch._int_mm if self.operand == torch.int8 else torch.mm
        call(a, b, out=out)
        return out


@contextmanager
def _tf32(device: str) -> Iterator[None]:
    if back_end(device) not in {"cuda", "hip"}:
        raise LeftOut(f"the {back_end(device)} back-end has no TF32")
    with tf32_allowed():
        yield


@contextmanager
def _float64(device: str) -> Iterator[None]:
    if why := float64_shortened_by(device):
        raise LeftOut(f"float64 is shortened by {why}")
    yield


@contextmanager
def _full(_device: str) -> Iterator[None]:
    with full_precision():
        yield


def _as_it_is(_device: str) -> AbstractContextManager[None]:
    return nullcontext()


#: Check -> the kind of its products.
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("bfloat16", torch.bfloat16, torch.bfloat16, _as_it_is),
        Kind("float16", torch.float16, torch.float16, _as_it_is),
        Kind("tf32", torch.float32, torch.float32, _tf32),
        Kind("float32", torch.float32, torch.float32, _full),
        Kind("float64", torch.float64, torch.float64, _float64),
        Kind("int8", torch.int8, torch.int32, int8_products, by_columns=True),
        Kind("float8", torch.float8_e4m3fn, torch.float32, float8_products, by_columns=True),
    )
}
