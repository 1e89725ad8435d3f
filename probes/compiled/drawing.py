"""Dropout in compiled training: its share, its scale, its mask in backward, its seed."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from probes.compiled.workspace import compiled
from probes.contract import Comparison
from probes.kit.gradients import host
from probes.kit.trial import Custom, Trial, fact

_COUNT: Final = 2**14
_DROPPED: Final = 0.25
#: Standard deviations, beyond which a share is not random: once in 10^9.
_SIGMAS: Final = 6.0


def random(_device: str) -> Iterator[Trial]:
    """In training, with a gradient."""
    yield Custom("dropout", _dropout)


def _function(x: torch.Tensor) -> torch.Tensor:
    return functional.dropout(x * 2, _DROPPED, training=True)


def _dropout(device: str) -> Iterator[Comparison]:
    call = compiled(_function)
    masks = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        x = torch.ones(_COUNT, device=device, requires_grad=True)
        out = call(x)
        out.sum().backward()
        kept, slope = host(out), host(x.grad) if x.grad is not None else np.zeros(0)
        masks.append(kept != 0)
        scaled = np.float32(2 / (1 - _DROPPED))
        # The scale is a quotient, rounded once or twice.
        near = np.abs(kept[kept != 0] - scaled) <= 2 * np.spacing(scaled)
        yield fact("dropout (scale)", bool(near.all()), True)
        yield fact("dropout (same elements in backward)", np.array_equal(slope, kept), True)
        spread = _SIGMAS * math.sqrt(_COUNT * _DROPPED * (1 - _DROPPED))
        dropped = _COUNT - int(masks[-1].sum())
        yield fact("dropout (share)", abs(dropped - _COUNT * _DROPPED) < spread, True)
        together = int((masks[-1][1:] == masks[-1][:-1]).sum())
        share = _DROPPED**2 + (1 - _DROPPED) ** 2
        spread = 2 * _SIGMAS * math.sqrt(_COUNT * share * (1 - share))
        yield fact("dropout (neighbours)", abs(together - _COUNT * share) < spread, True)
    first, second, again = masks
    yield fact("dropout (other seed)", np.array_equal(first, second), False)
    yield fact("dropout (same seed)", np.array_equal(first, again), True)
    torch.manual_seed(1)
    x = torch.ones(_COUNT, device=device, requires_grad=True)
    twice = [host(call(x)) != 0 for _ in range(2)]
    yield fact("dropout (anew in each call)", np.array_equal(*twice), False)
