"""Dropout in train() and eval(), by its closed form.

Random counts are held within 6 standard deviations: a false alarm once in 5e8 checks.
"""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.references import attempted_all, compare, fact
from probes.tensors import refusal
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, near, put

_SIGMAS: Final = 6
_ALPHA: Final = 1.7580993408473766  # -lambda * alpha of SELU, Klambauer et al. 2017, section 3

#: What an identity must keep and a product with 1 would not: signs of zero, NaN, subnormals.
_SPECIAL: Final = np.array(
    [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -1e-38], dtype=np.float32
)


def _input(shape: tuple[int, ...]) -> Array:
    """Odd integers of both signs: none is zero, so that every zero was dropped."""
    return integers(shape, 63) * 2 + 1


def _counted(operation: str, count: int, trials: int, chance: float) -> Comparison:
    """A binomial count within 6 sigma of its mean."""
    sigma = sqrt(trials * chance * (1 - chance))
    return near(operation, count, trials * chance, _SIGMAS * sigma)


def _kept(out: torch.Tensor, dropped: float = 0.0) -> Any:
    return out.detach().cpu().numpy() != np.float32(dropped)


def train(device: str) -> list[Comparison]:
    """Each value is 0 or x / (1 - p), as often as p says, and apart from its neighbours'."""

    def one(p: float, count: int, make: Callable[[torch.Tensor], torch.Tensor]) -> list[Comparison]:
        x = _input((count,))
        first, second = (make(put(x, device)) for _ in range(2))
        kept, again = _kept(first), _kept(second)
        scaled = np.where(kept, x / (1 - p), 0.0)
        # Two roundings: of the factor and of the product; none where the factor is a power of 2.
        allowed = 0.0 if p in {0.5, 0.75} else 4 * FLOAT32_UNIT * np.abs(scaled)
        stay = 1 - p
        # Neighbouring pairs overlap: Var = m s^2 (1 - s^2) + 2 (m - 1) s^3 (1 - s), m pairs.
        pairs = count - 1
        spread = sqrt(pairs * stay**2 * (1 - stay**2) + 2 * (pairs - 1) * stay**3 * p)
        return [
            compare(f"p={p}: values", first, scaled, allowed),
            _counted(f"p={p}: kept", int(kept.sum()), count, stay),
            near(
                f"p={p}: neighbours both kept",
                int((kept[1:] & kept[:-1]).sum()),
                pairs * stay**2,
                _SIGMAS * spread,
            ),
            _counted(
                f"p={p}: kept alike by two calls",
                int((kept == again).sum()),
                count,
                stay**2 + p**2,
            ),
        ]

    cases: dict[str, tuple[float, int, Callable[[torch.Tensor], torch.Tensor]]] = {
        "Dropout(0.5)": (0.5, 2**17, nn.Dropout(0.5)),
        "Dropout(0.1)": (0.1, 2**14, nn.Dropout(0.1)),
        "functional, 0.75": (0.75, 2**14, partial(nn.functional.dropout, p=0.75, training=True)),
    }
    return [c for name, case in cases.items() for c in attempted_all(name, partial(one, *case))]


def channels(device: str) -> list[Comparison]:
    """Dropout1d, 2d and 3d drop whole channels, as often as p says."""

    def one(module: nn.Module, shape: tuple[int, ...]) -> list[Comparison]:
        x = _input(shape)
        out = module(put(x, device))
        first = _kept(out).reshape(*shape[:2], -1)[:, :, :1]  # (N, C, 1)
        expected = np.where(first.reshape(*shape[:2], *([1] * (len(shape) - 2))), 2 * x, 0.0)
        name = type(module).__name__
        return [
            # + 0.0: a dropped value may be -0.0
            compare(f"{name}: values", out + 0.0, expected.astype(np.float32)),
            _counted(f"{name}: kept", int(first.sum()), shape[0] * shape[1], 0.5),
        ]

    cases = (
        (nn.Dropout1d(0.5), (64, 64, 3)),
        (nn.Dropout2d(0.5), (64, 64, 2, 2)),
        (nn.Dropout3d(0.5), (64, 64, 2, 1, 2)),
    )
    return [c for case in cases for c in attempted_all(str(case[0]), partial(one, *case))]


def alpha(device: str) -> list[Comparison]:
    """AlphaDropout: a x + b where kept, b - a alpha where dropped, which keeps mean and variance."""
    p = 0.5
    scale = 1 / sqrt((1 - p) * (1 + p * _ALPHA**2))
    shift = scale * p * _ALPHA

    def one(module: nn.Module, shape: tuple[int, ...], per: int) -> list[Comparison]:
        x = np.abs(_input(shape))  # positive: kept values lie above the dropped one
        out = module(put(x, device))
        kept = out.detach().cpu().numpy().reshape(-1, per)[:, :1] > 0  # of each group's first
        grouped = np.where(kept, scale * x.reshape(-1, per) + shift, shift - scale * _ALPHA)
        allowed = 8 * FLOAT32_UNIT * (scale * np.abs(x) + 2 * scale * _ALPHA)  # 8 roundings
        name = type(module).__name__
        return [
            compare(f"{name}: values", out, grouped.reshape(shape), allowed),
            _counted(f"{name}: kept", int(kept.sum()), kept.size, 1 - p),
        ]

    cases = (
        (nn.AlphaDropout(p), (2**13,), 1),
        (nn.FeatureAlphaDropout(p), (64, 64, 3), 3),
    )
    return [c for case in cases for c in attempted_all(str(case[0]), partial(one, *case))]


def edges(device: str) -> list[Comparison]:
    """p = 0 keeps all, p = 1 nothing; in place is in place; a p that is no chance is refused."""
    x = _input((1000,)).astype(np.float32)

    def facts() -> list[Comparison]:
        whole, nothing = nn.Dropout(0.0), nn.Dropout(1.0)
        own = put(x.astype(np.float64), device)
        made = nn.Dropout(0.5, inplace=True)(own)
        apart = put(x.astype(np.float64), device)
        nn.Dropout(0.5)(apart)
        return [
            compare("p=0", whole(apart), x),
            compare("p=1", (nothing(apart) == 0).cpu(), np.ones(1000, dtype=np.bool_)),
            fact("inplace gives its input", made is own, True),
            compare("inplace: values", own + 0.0, np.where(_kept(own), 2 * x, np.float32(0))),
            compare("the input is left alone", apart, x),
            *(
                fact(f"p={p} is refused", refusal(partial(nn.Dropout, p))[:10], "ValueError")
                for p in (-0.1, 1.1)
            ),
        ]

    return attempted_all("edges", facts)


def evaluate(device: str) -> list[Comparison]:
    """In eval() every kind of dropout is the identity, to the bit."""
    functional: Any = nn.functional
    flat, deep = _SPECIAL, np.tile(_SPECIAL, 4).reshape(1, 2, 2, 2, 5)
    cases: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Any]] = {
        "Dropout": (nn.Dropout(0.5).eval(), flat),
        "Dropout(1)": (nn.Dropout(1.0).eval(), flat),
        "Dropout, in place": (nn.Dropout(0.5, inplace=True).eval(), flat),
        "Dropout1d": (nn.Dropout1d(0.5).eval(), deep[0, 0]),
        "Dropout2d": (nn.Dropout2d(0.5).eval(), deep[0]),
        "Dropout3d": (nn.Dropout3d(0.5).eval(), deep),
        "AlphaDropout": (nn.AlphaDropout(0.5).eval(), flat),
        "FeatureAlphaDropout": (nn.FeatureAlphaDropout(0.5).eval(), deep),
        **{
            f"functional.{name}": (partial(getattr(functional, name), p=0.5, training=False), array)
            for name, array in (
                ("dropout", flat),
                ("dropout1d", deep[0, 0]),
                ("dropout2d", deep[0]),
                ("dropout3d", deep),
                ("alpha_dropout", flat),
                ("feature_alpha_dropout", deep),
            )
        },
    }

    def one(name: str, call: Callable[[torch.Tensor], torch.Tensor], x: Any) -> list[Comparison]:
        return [compare(name, call(torch.from_numpy(x.copy()).to(device)), x)]

    return [c for n, case in cases.items() for c in attempted_all(n, partial(one, n, *case))]


def backward(device: str) -> list[Comparison]:
    """The gradient passes where the value passed, times 1 / (1 - p); in eval() everywhere."""

    def facts() -> list[Comparison]:
        module = nn.Dropout(0.5)
        found = []
        for training in (True, False):
            x = put(_input((4096,)), device).requires_grad_()
            out = module.train(training)(x)
            out.sum().backward()
            factor = np.where(_kept(out), 2.0 if training else 1.0, 0.0).astype(np.float32)
            mode = "train" if training else "eval"
            if x.grad is None:
                found.append(fact(f"{mode}: gradient", None, "a tensor"))
            else:
                found.append(compare(f"{mode}: gradient", x.grad, factor))
        return found

    return attempted_all("backward", facts)
