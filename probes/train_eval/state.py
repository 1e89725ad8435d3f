"""Shared helpers: integers, tensors from arrays, comparison of numbers, random state."""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit import precision
from probes.kit.references import compare

FLOAT32_UNIT: Final = 2.0**-24

Array = npt.NDArray[np.float64]


def integers(shape: tuple[int, ...], spread: int = 17, seed: int = 1) -> Array:
    """Fixed integers of mixed sign, |x| <= spread // 2, as float64."""
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    mixed = ((index + seed) * 2654435761 % 2**32) >> 13
    return (mixed % spread - spread // 2).astype(np.float64).reshape(shape)


def to_tensor(array: Array, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The array as a tensor on the device, rounded to float32 first."""
    return torch.from_numpy(array.astype(np.float32)).to(device, dtype)


def product_unit(device: str) -> float:
    """The unit roundoff of float32 products on the device.

    The probe asks for full precision, but an environment variable may shorten them to bfloat16.
    """
    return 2.0**-8 if precision.read(device).forced_by else FLOAT32_UNIT


def compare_number(operation: str, observed: float, expected: float, allowed: float) -> Comparison:
    """Compare one number, within the absolute bound `allowed`."""
    return compare(operation, np.asarray(observed), np.asarray(expected), allowed)
