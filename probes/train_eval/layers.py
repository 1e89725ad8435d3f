"""Layers without a mode, RReLU with one, and independence of the rows of a batch."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.capabilities import back_end
from probes.kit.references import attempted_all, compare, fact
from probes.train_eval.modes import FEATURES, ROWS
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, to_tensor


def no_mode(device: str) -> list[Comparison]:
    """Compare layers without a mode, in train() and in eval(), with NumPy's answer.

    On the CPU both modes must have equal bits; GPUs do not promise that of two calls.
    """
    x, rows = integers((2, 3, 6, 6), 15), integers((ROWS, FEATURES), 15)
    # The stride is 2: with 1 a library may use a Winograd or FFT algorithm, which round integers.
    # MIOpen has a Winograd algorithm for 2 too, with factors 1/6 and 1/24: up to a quarter off.
    winograd = 0.25 if back_end(device) == "hip" else None
    kernel, weight = integers((4, 3, 2, 2), 7, 2), integers((5, FEATURES), 7, 3)
    # (2, 3, 3, 3, 2, 2): every window of the kernel
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))[:, :, ::2, ::2]
    pooled = x.reshape(2, 3, 3, 2, 3, 2)
    exact: dict[str, tuple[nn.Module, Array, Array]] = {
        "Linear": (_with_weight(nn.Linear(FEATURES, 5, bias=False), weight), rows, rows @ weight.T),
        "Conv2d": (
            _with_weight(nn.Conv2d(3, 4, 2, stride=2, bias=False), kernel),
            x,
            np.einsum("nchwij,kcij->nkhw", windows, kernel),
        ),
        "MaxPool2d": (nn.MaxPool2d(2), x, pooled.max(axis=(3, 5))),
        "AvgPool2d": (nn.AvgPool2d(2), x, pooled.mean(axis=(3, 5))),
        "ReLU": (nn.ReLU(), x, np.maximum(x, 0.0) + 0.0),
    }
    norms: dict[str, tuple[nn.Module, Array, tuple[int, ...]]] = {
        "LayerNorm": (nn.LayerNorm(FEATURES), x, (3,)),
        "GroupNorm": (nn.GroupNorm(1, 3), x, (1, 2, 3)),
        "InstanceNorm2d": (nn.InstanceNorm2d(3), x, (2, 3)),
    }

    def compare_modes(
        name: str, module: nn.Module, array: Array, expected: Array, allowed: Any
    ) -> list[Any]:
        module.to(device)
        tensor = to_tensor(array, device)
        outs = [module.train(mode)(tensor).detach() for mode in (True, False)]
        expected = expected if allowed is not None else expected.astype(np.float32)
        comparisons = [
            compare(f"{name}, {mode}", out + 0.0, expected, allowed)
            for mode, out in zip(("train", "eval"), outs, strict=True)
        ]
        if torch.device(device).type == "cpu":
            comparisons.append(compare(f"{name}, both modes", outs[1], outs[0].numpy()))
        return comparisons

    comparisons = []
    for name, (module, array, expected) in exact.items():
        allowed = winograd if name == "Conv2d" else None
        case = partial(compare_modes, name, module, array, expected, allowed)
        comparisons += attempted_all(name, case, device)
    for name, (module, array, axes) in norms.items():
        mean, var = array.mean(axis=axes, keepdims=True), array.var(axis=axes, keepdims=True)
        expected = (array - mean) / np.sqrt(var + 1e-5)
        count = array.size // mean.size
        # As in norm_form.py: sums of `count` values, then x a - mean a, whose sizes add up.
        kappa = float(np.sqrt(1 + mean**2 / var).max())
        size = (np.abs(array) + np.abs(mean)) / np.sqrt(var)
        allowed = (count + 16) * FLOAT32_UNIT * kappa * size
        comparisons += attempted_all(
            name, partial(compare_modes, name, module, array, expected, allowed), device
        )
    return comparisons


def _with_weight(module: Any, weight: Array) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
    return module  # type: ignore[no-any-return]


def random_slope(device: str) -> list[Comparison]:
    """Compare RReLU: a random negative slope in train(), the middle of its range in eval()."""

    def facts() -> list[Comparison]:
        module = nn.RReLU(0.25, 0.75)
        x = integers((4096,), 31) * 2 + 1
        drawn = module(to_tensor(x, device)).cpu().numpy()
        slopes = (drawn / x)[x < 0]
        middle = np.where(x < 0, x / 2, x).astype(np.float32)
        inside = bool(((slopes >= 0.25) & (slopes <= 0.75)).all())
        return [
            fact("train: slopes within their range", inside, True),
            fact("train: slopes differ", bool(np.ptp(slopes) > 0.4), True),
            compare("train: positive values", drawn[x > 0], middle[x > 0]),
            compare("eval", module.eval()(to_tensor(x, device)), middle),
        ]

    return attempted_all("RReLU", facts, device)


def independence(device: str) -> list[Comparison]:
    """Verify that in eval() a row's answer does not depend on the other rows."""

    def facts() -> list[Comparison]:
        weight = integers((5, FEATURES), 7, 3)
        linear = _with_weight(nn.Linear(FEATURES, 5, bias=False), weight)
        norm = nn.BatchNorm1d(5)
        with torch.no_grad():
            norm.running_mean.fill_(2.0)  # type: ignore[union-attr]
            norm.running_var.fill_(3.0)  # type: ignore[union-attr]
        model = nn.Sequential(linear, norm, nn.Dropout(0.5), nn.ReLU()).to(device).eval()
        rows = integers((ROWS, FEATURES), 15)
        rows[1::2] *= 64  # larger neighbours, which would change shared statistics
        expected = np.maximum((rows @ weight.T - 2) / np.sqrt(3 + 1e-5), 0)
        allowed = 16 * FLOAT32_UNIT * (np.abs(rows @ weight.T) + 2)
        whole = model(to_tensor(rows, device)).detach()
        comparisons = [compare("whole batch", whole, expected, allowed)]
        for row in range(ROWS):
            single_row = model(to_tensor(rows[row : row + 1], device)).detach()
            part = slice(row, row + 1)
            comparisons.append(
                compare(f"row {row} alone", single_row, expected[part], allowed[part])
            )
        reversed_rows = model(to_tensor(rows[::-1], device)).detach()
        comparisons.append(compare("reversed batch", reversed_rows, expected[::-1], allowed[::-1]))
        return comparisons

    return attempted_all("independence", facts, device)
