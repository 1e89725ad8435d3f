"""Dropout where it must do nothing, or all: eval(), p = 0, p = 1, in place; and its gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare, fact
from probes.kit.tensors import refusal
from probes.train_eval.dropout import kept_of, odd_integers
from probes.train_eval.state import put

#: What an identity must keep and a product with 1 would not: signs of zero, NaN, subnormals.
_SPECIAL: Final = np.array(
    [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -1e-38], dtype=np.float32
)


def edges(device: str) -> list[Comparison]:
    """All stays with p = 0, nothing with p = 1; in place is in place; a bad p is refused."""
    x = odd_integers((1000,)).astype(np.float32)

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
            compare("inplace: values", own + 0.0, np.where(kept_of(own), 2 * x, np.float32(0))),
            compare("the input is left alone", apart, x),
            *(
                fact(f"p={p} is refused", bool(refusal(partial(nn.Dropout, p))), True)
                for p in (-0.1, 1.1)
            ),
        ]

    return attempted_all("edges", facts, device)


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

    return [
        c for n, case in cases.items() for c in attempted_all(n, partial(one, n, *case), device)
    ]


def backward(device: str) -> list[Comparison]:
    """The gradient passes where the value passed, times 1 / (1 - p); in eval() everywhere."""

    def facts() -> list[Comparison]:
        module = nn.Dropout(0.5)
        found = []
        for training in (True, False):
            x = put(odd_integers((4096,)), device).requires_grad_()
            out = module.train(training)(x)
            out.sum().backward()
            factor = np.where(kept_of(out), 2.0 if training else 1.0, 0.0).astype(np.float32)
            mode = "train" if training else "eval"
            if x.grad is None:
                found.append(fact(f"{mode}: gradient", None, "a tensor"))
            else:
                found.append(compare(f"{mode}: gradient", x.grad, factor))
        return found

    return attempted_all("backward", facts, device)
