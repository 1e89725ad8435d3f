"""A pattern that tells each address from all that are a power of two away.

Bytes with a prime period: an index that wraps at 2^20, 2^24, 2^31 or 2^32 meets another place of
the period. Sums and positions have closed forms, and a tensor of any size is compared with one
period of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.case import Array
from probes.kit.operands import integers
from probes.kit.references import compare

PERIOD: Final = 65_521  # the largest prime below 2^16
LOWEST: Final = 10
HIGHEST: Final = 250

#: Periods of a block that is compared at once: on the CPU, where NumPy compares, fewer elements
#: than any size that is tested; elsewhere few, which are soon made, or for a tensor of more than
#: _FEW elements 2^26 bytes, which the device soon compares.
_PERIODS_ON_CPU: Final = 8
_PERIODS: Final = 16
_PERIODS_OF_BYTES: Final = 1024
_FEW: Final = 2**25


@dataclass(frozen=True)
class Pattern:
    """One period, uint8, with a sum that is a multiple of 256: sums in uint8 are periodic too."""

    base: Array
    prefix: Array = field(init=False)  # int64, one longer: the sums of the first elements

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", np.r_[0, self.base.cumsum(dtype=np.int64)])

    def total(self, count: int, values: Array | None = None) -> int:
        """The sum of the first elements, or of other values that go with one period."""
        prefix = self.prefix if values is None else np.r_[0, values.cumsum(dtype=np.int64)]
        periods, rest = divmod(count, PERIOD)
        return int(periods * prefix[-1] + prefix[rest])

    def at(self, places: Array) -> Array:
        """The elements at these places."""
        return np.asarray(self.base[places % PERIOD])

    def on(self, device: str, count: int) -> torch.Tensor:
        """The first elements as a tensor of shape (count,), copied period by period, doubling."""
        made = torch.empty(count, dtype=torch.uint8, device=device)
        made[:PERIOD].copy_(torch.from_numpy(self.base.copy()))
        done = PERIOD
        while done < count:
            step = min(done, count - done)
            made[done : done + step].copy_(made[:step])
            done += step
        return made


@cache
def pattern(salt: int = 0) -> Pattern:
    """A pattern; another salt gives another one. The values LOWEST and HIGHEST are in it."""
    base = integers((PERIOD,), LOWEST, HIGHEST, 300 + salt, np.uint8).copy()
    base[7], base[70] = LOWEST, HIGHEST
    excess = int(base.sum(dtype=np.int64)) % 256
    for place in range(100, 110):  # taken from some elements, so that none leaves the range
        taken = min(excess, int(base[place]) - LOWEST)
        base[place] -= taken
        excess -= taken
    base.setflags(write=False)
    return Pattern(base)


def same(
    operation: str, found: torch.Tensor, period: Array, start: int = 0, allowed: float | None = None
) -> Comparison:
    """Compare each element i of a tensor with `period[(i + start) % len(period)]`.

    Bit by bit, but for the sign of 0, or with an absolute error of at most `allowed`; bfloat16 with
    a period in float32.
    The first block that differs is fetched and described; those after it are not looked at.
    """
    label = f"{operation} ({found.numel()} elements)"
    flat = found.reshape(-1)
    kind = _floats(flat[:1]).cpu().numpy().dtype
    if kind != period.dtype:
        return Comparison(operation=label, problem=f"dtype {kind} where {period.dtype} is right")
    on_cpu = flat.device.type == "cpu"
    period = _positive_zeros(period)
    times = _PERIODS_ON_CPU if on_cpu else _PERIODS
    if not on_cpu and flat.numel() > _FEW:
        times = _PERIODS_OF_BYTES // period.itemsize
    times = max(1, times * PERIOD // len(period))
    times = min(times, -(-flat.numel() // len(period)))
    right = np.tile(np.roll(period, -(start % len(period))), times)
    reference = None if on_cpu else torch.from_numpy(right.copy()).to(flat.device)
    for begin in range(0, flat.numel(), len(right)):
        block = _floats(flat[begin : begin + len(right)])
        if reference is None:
            equal = _equal_on_host(block.numpy(), right[: block.numel()], allowed)
        else:
            equal = _equal(block, reference[: block.numel()], allowed)
        if not equal:
            wrong = compare(label, block, right[: block.numel()], allowed)
            if not wrong.holds:
                return _moved(wrong, begin)
    if on_cpu:
        return Comparison(operation=label, elements=flat.numel())
    last = _positive_zeros(_floats(flat[-PERIOD:]).cpu().numpy())  # by NumPy too
    begin = (flat.numel() - last.size) % len(right)
    wanted = np.resize(np.roll(right, -begin), last.size)
    if not _equal_on_host(last, wanted, allowed):
        ended = compare(label, last, wanted, allowed)
        if not ended.holds:
            return _moved(ended, flat.numel() - last.size)
    return Comparison(operation=label, elements=flat.numel())


def _floats(x: torch.Tensor) -> torch.Tensor:
    """Bfloat16 as float32, which NumPy has; others as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x


def _positive_zeros(array: Array) -> Array:
    """A floating -0 as 0: the sign of a zero is not promised."""
    floating = np.issubdtype(array.dtype, np.floating)
    return np.asarray(np.add(array, 0, dtype=array.dtype)) if floating else array


def _equal_on_host(block: Array, right: Array, allowed: float | None) -> bool:
    """Whether all is equal, or surely within; NaN is not."""
    if allowed is None:
        return np.array_equal(block, right)
    distance = block - right
    return bool(distance.max() <= allowed and distance.min() >= -allowed)


def _equal(block: torch.Tensor, right: torch.Tensor, allowed: float | None) -> bool:
    if allowed is None:
        return torch.equal(block, right)
    return bool(((block - right).abs() <= allowed).all())


def _moved(wrong: Comparison, begin: int) -> Comparison:
    """The comparison of a block that begins there, with indices of the whole tensor."""

    def moved(index: Sequence[int] | None) -> tuple[int, ...] | None:
        return None if index is None else tuple(begin + each for each in index)

    places: dict[str, Any] = {
        "first_index": moved(wrong.first_index),
        "worst_index": moved(wrong.worst_index),
    }
    if (seen := wrong.pattern) is not None:
        moves = {
            name: tuple(moved(index) for index in getattr(seen, name)) for name in ("first", "last")
        }
        places["pattern"] = seen.model_copy(update=moves)
    return wrong.model_copy(update=places)
