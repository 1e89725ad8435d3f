"""Operations that autocast runs in float32, given the lower type."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from probes.amp import functions, losses, on_cpu
from probes.amp.rows import Row, trials
from probes.kit.trial import Trial

_MOST: Final = ("cpu", "cuda")


def float32(device: str) -> Iterator[Trial]:
    """Given the lower type alone, and with float32 for all but the first, as targets have it."""
    single = torch.float32
    yield from trials(rows(), device, lambda lower: (((lower,), single), ((lower, single), single)))


def rows() -> Iterator[Row]:
    """The tables of all types of device."""
    yield from functions.rows()
    yield from losses.rows()
    yield from on_cpu.rows()
    odd = np.array([3.0, 5.0, -7.0, 11.0, 13.0, 17.0])
    yield Row("prod", torch.prod, (odd,), np.asarray(odd.prod()), _MOST)
