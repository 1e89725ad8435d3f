"""Dropout in eval(), with p = 0 and p = 1, in place; and its gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare, fact
from probes.kit.tensors import refusal
from probes.train_eval.dropout import kept_mask, odd_integers
from probes.train_eval.state import to_tensor

#: Values that an identity keeps and a product with 1 may change: -0.0, NaN, subnormals.
_SPECIAL: Final = np.array(
    [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -1e-38], dtype=np.float32
)


def edges(device: str) -> list[Comparison]:
    """Compare p = 0 (keeps all), p = 1 (keeps nothing), in place, and that a bad p is refused."""
    x = odd_integers((1000,)).astype(np.float32)

    def facts() -> list[Comparison]:
        keep_all, drop_all = nn.Dropout(0.0), nn.Dropout(1.0)
        changed_in_place = to_tensor(x.astype(np.float64), device)
        result = nn.Dropout(0.5, inplace=True)(changed_in_place)
        unchanged = to_tensor(x.astype(np.float64), device)
        nn.Dropout(0.5)(unchanged)
        return [
            compare("p=0", keep_all(unchanged), x),
            compare("p=1", (drop_all(unchanged) == 0).cpu(), np.ones(1000, dtype=np.bool_)),
            fact("inplace gives its input", result is changed_in_place, True),
            compare(
                "inplace: values",
                changed_in_place + 0.0,
                np.where(kept_mask(changed_in_place), 2 * x, np.float32(0)),
            ),
            compare("the input is left alone", unchanged, x),
            *(
                fact(f"p={p} is refused", bool(refusal(partial(nn.Dropout, p))), True)
                for p in (-0.1, 1.1)
            ),
        ]

    return attempted_all("edges", facts, device)


def evaluate(device: str) -> list[Comparison]:
    """Verify that every kind of dropout in eval() is the identity, to the bit."""
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

    def compare_case(
        name: str, call: Callable[[torch.Tensor], torch.Tensor], x: Any
    ) -> list[Comparison]:
        return [compare(name, call(torch.from_numpy(x.copy()).to(device)), x)]

    return [
        c
        for n, case in cases.items()
        for c in attempted_all(n, partial(compare_case, n, *case), device)
    ]


def backward(device: str) -> list[Comparison]:
    """Compare gradients: 1 / (1 - p) where the value was kept, 0 where not; in eval() 1."""

    def facts() -> list[Comparison]:
        module = nn.Dropout(0.5)
        comparisons = []
        for training in (True, False):
            x = to_tensor(odd_integers((4096,)), device).requires_grad_()
            out = module.train(training)(x)
            out.sum().backward()
            factor = np.where(kept_mask(out), 2.0 if training else 1.0, 0.0).astype(np.float32)
            mode = "train" if training else "eval"
            if x.grad is None:
                comparisons.append(fact(f"{mode}: gradient", None, "a tensor"))
            else:
                comparisons.append(compare(f"{mode}: gradient", x.grad, factor))
        return comparisons

    return attempted_all("backward", facts, device)
