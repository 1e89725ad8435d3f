"""Numbers that were drawn: a generator for them, and their moments within six sigma."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.references import UNIT_ROUNDOFF, compare

SEED = 20240229

_HALVES = (torch.float16, torch.bfloat16)

#: How many numbers are drawn for a moment.
DRAWS = 1 << 15


def generator(device: str, seed: int) -> torch.Generator:
    """A new generator, so that the user's generator is not changed."""
    return torch.Generator(device=device).manual_seed(seed)


def moment_comparisons(
    name: str, drawn: torch.Tensor, mean: float, variance: float, spread: float
) -> Iterator[Comparison]:
    """Mean and variance of n draws within 6 sigma; `spread` is the variance of (x - mean)^2.

    In a half type each number may be off by its rounding, which a back-end may do downwards.
    """
    on_host = drawn.cpu()
    x = (on_host.float() if drawn.dtype in _HALVES else on_host).numpy().astype(np.float64)
    six_sigma = 6 / math.sqrt(x.size)
    off = 2 * UNIT_ROUNDOFF[drawn.dtype] if drawn.dtype in _HALVES else 0.0
    label = f"{name} ({str(drawn.dtype).removeprefix('torch.')}"
    typical = abs(mean) + math.sqrt(variance)
    yield compare(
        f"{label}, mean)",
        np.asarray(x.mean()),
        np.asarray(mean),
        six_sigma * math.sqrt(variance) + off * typical,
    )
    yield compare(
        f"{label}, variance)",
        np.asarray(((x - mean) ** 2).mean()),
        np.asarray(variance),
        six_sigma * math.sqrt(spread) + 2 * off * typical**2,
    )
    # Neighbours are independent: their products' mean has the standard deviation variance/sqrt(n).
    lag = float(((x[1:] - mean) * (x[:-1] - mean)).mean())
    yield compare(
        f"{label}, correlation)",
        np.asarray(lag),
        np.asarray(0.0),
        six_sigma * variance + (off * typical) ** 2,
    )
