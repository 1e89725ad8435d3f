"""Linear maps of a small matrix, and what is put beside it on its device."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

from probes.kit.layer import Layer, linear
from probes.kit.operands import integers

Call = Callable[[torch.Tensor], torch.Tensor]
Move = Callable[[Any], Any]

SHAPE: Final = (4, 6)
X: Final = np.asarray(integers(SHAPE, -6, 6, 70), np.float64)
MASK: Final = integers(SHAPE, 0, 1, 73).astype(bool)
#: Powers of 2, of which quotients and products are exact.
POWERS: Final = np.asarray(2.0 ** integers(SHAPE, -1, 2, 71), np.float64)
ROWS: Final = np.array([3, 0, 3])


def moved(name: str, call: Call, move: Move, variant: str = "") -> Layer:
    """A call that is linear in a matrix: `move` takes a batch (B, 4, 6), as NumPy writes it."""
    return Layer(name, call, (X,), linear(move, 2), variant)


def beside(array: Any, x: torch.Tensor) -> torch.Tensor:
    """An array on a tensor's device; numbers in its type, indices and masks as they are."""
    dtype = x.dtype if array.dtype.kind == "f" else None
    return torch.from_numpy(array.copy()).to(x.device, dtype)


def unmasked(batch: Any) -> Any:
    """Zeros where the mask is set."""
    return np.where(MASK, 0, batch)
