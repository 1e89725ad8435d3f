"""A cache of compiled functions: the same function again, and one that is almost the same."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import host, tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial

_COUNT: Final = 40


def cache(_device: str) -> Iterator[Trial]:
    """Functions that are compiled, forgotten, and compiled again from what lies in the folder."""
    yield Custom("cached functions", _cached)


def _times(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * factor).relu() - 7

    return function


def _cached(device: str) -> Iterator[Comparison]:
    array = np.arange(_COUNT) - _COUNT / 2
    x = tensor(array, device)
    for turn, factor in enumerate((3.0, 3.0, 5.0, 3.0)):
        with torch.no_grad():
            found = compiled(_times(factor))(x)
        right = (np.maximum(array * factor, 0) - 7).astype(np.float32)
        yield compare(f"cached functions (factor {factor:g}, turn {turn})", host(found), right)
