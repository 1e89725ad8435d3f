"""Dropout in train(), by its closed form.

Random counts must be within 6 standard deviations: one false alarm in 5e8 checks.
"""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare
from probes.train_eval.state import FLOAT32_UNIT, Array, compare_number, integers, to_tensor

_SIGMAS: Final = 6
_ALPHA: Final = 1.7580993408473766  # -lambda * alpha of SELU, Klambauer et al. 2017, section 3


def odd_integers(shape: tuple[int, ...]) -> Array:
    """Odd integers of both signs: none is zero, so every zero in an output was dropped."""
    return integers(shape, 63) * 2 + 1


def _compare_count(operation: str, count: int, trials: int, chance: float) -> Comparison:
    """Compare a binomial count with its mean, within 6 sigma."""
    sigma = sqrt(trials * chance * (1 - chance))
    return compare_number(operation, count, trials * chance, _SIGMAS * sigma)


def kept_mask(out: torch.Tensor) -> Any:
    """Where values were kept: a bool array of the output's shape."""
    return out.detach().cpu().numpy() != 0


def train(device: str) -> list[Comparison]:
    """Compare values (0 or x / (1 - p)), how often they are 0, and independence of neighbours."""

    def compare_case(
        p: float, count: int, make: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[Comparison]:
        x = odd_integers((count,))
        first, second = (make(to_tensor(x, device)) for _ in range(2))
        kept, again = kept_mask(first), kept_mask(second)
        scaled = np.where(kept, x / (1 - p), 0.0)
        # Two roundings: of the factor and of the product; none where the factor is a power of 2.
        allowed = 0.0 if p in {0.5, 0.75} else 4 * FLOAT32_UNIT * np.abs(scaled)
        keep = 1 - p
        # Neighbouring pairs overlap: Var = m s^2 (1 - s^2) + 2 (m - 1) s^3 (1 - s), m pairs.
        pairs = count - 1
        spread = sqrt(pairs * keep**2 * (1 - keep**2) + 2 * (pairs - 1) * keep**3 * p)
        return [
            compare(f"p={p}: values", first, scaled, allowed),
            _compare_count(f"p={p}: kept", int(kept.sum()), count, keep),
            compare_number(
                f"p={p}: neighbours both kept",
                int((kept[1:] & kept[:-1]).sum()),
                pairs * keep**2,
                _SIGMAS * spread,
            ),
            _compare_count(
                f"p={p}: kept alike by two calls",
                int((kept == again).sum()),
                count,
                keep**2 + p**2,
            ),
        ]

    cases: dict[str, tuple[float, int, Callable[[torch.Tensor], torch.Tensor]]] = {
        "Dropout(0.5)": (0.5, 2**17, nn.Dropout(0.5)),
        "Dropout(0.1)": (0.1, 2**14, nn.Dropout(0.1)),
        "functional, 0.75": (0.75, 2**14, partial(nn.functional.dropout, p=0.75, training=True)),
    }
    return [
        c
        for name, case in cases.items()
        for c in attempted_all(name, partial(compare_case, *case), device)
    ]


def channels(device: str) -> list[Comparison]:
    """Verify that Dropout1d, 2d and 3d drop whole channels, as often as p says."""

    def compare_case(module: nn.Module, shape: tuple[int, ...]) -> list[Comparison]:
        x = odd_integers(shape)
        out = module(to_tensor(x, device))
        first = kept_mask(out).reshape(*shape[:2], -1)[:, :, :1]  # (N, C, 1)
        expected = np.where(first.reshape(*shape[:2], *([1] * (len(shape) - 2))), 2 * x, 0.0)
        name = type(module).__name__
        return [
            # + 0.0: a dropped value may be -0.0
            compare(f"{name}: values", out + 0.0, expected.astype(np.float32)),
            _compare_count(f"{name}: kept", int(first.sum()), shape[0] * shape[1], 0.5),
        ]

    cases = (
        (nn.Dropout1d(0.5), (64, 64, 3)),
        (nn.Dropout2d(0.5), (64, 64, 2, 2)),
        (nn.Dropout3d(0.5), (64, 64, 2, 1, 2)),
    )
    return [
        c
        for case in cases
        for c in attempted_all(str(case[0]), partial(compare_case, *case), device)
    ]


def alpha(device: str) -> list[Comparison]:
    """Compare AlphaDropout: a x + b where kept, b - a alpha where dropped."""
    p = 0.5
    scale = 1 / sqrt((1 - p) * (1 + p * _ALPHA**2))
    shift = scale * p * _ALPHA

    def compare_case(module: nn.Module, shape: tuple[int, ...], per: int) -> list[Comparison]:
        x = np.abs(odd_integers(shape))  # positive: kept values lie above the dropped one
        out = module(to_tensor(x, device))
        kept = (
            out.detach().cpu().numpy().reshape(-1, per)[:, :1] > 0
        )  # from the first of each group
        grouped = np.where(kept, scale * x.reshape(-1, per) + shift, shift - scale * _ALPHA)
        allowed = 8 * FLOAT32_UNIT * (scale * np.abs(x) + 2 * scale * _ALPHA)  # 8 roundings
        name = type(module).__name__
        return [
            compare(f"{name}: values", out, grouped.reshape(shape), allowed),
            _compare_count(f"{name}: kept", int(kept.sum()), kept.size, 1 - p),
        ]

    cases = (
        (nn.AlphaDropout(p), (2**13,), 1),
        (nn.FeatureAlphaDropout(p), (64, 64, 3), 3),
    )
    return [
        c
        for case in cases
        for c in attempted_all(str(case[0]), partial(compare_case, *case), device)
    ]
