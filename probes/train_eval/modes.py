"""What train() and eval() reach, what they leave alone, and layers that must not care."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.references import attempted_all, compare, fact
from probes.tensors import refusal
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, put

_ROWS: Final = 8
_FEATURES: Final = 6


class _Leaf(nn.Module):
    """A user's own module, with a layer in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x)  # type: ignore[no-any-return]


class _Tree(nn.Module):
    """Every way to hold a child: attribute, list, dict, sequence, nested, added by name."""

    def __init__(self) -> None:
        super().__init__()
        self.own = _Leaf()
        self.listed = nn.ModuleList([_Leaf(), nn.BatchNorm1d(_FEATURES)])
        self.named = nn.ModuleDict({"a": _Leaf(), "b": nn.Sequential(nn.Dropout(0.5), _Leaf())})
        self.add_module("added", nn.Sequential(nn.Sequential(nn.Dropout(0.5))))
        self.shared = self.own  # one module in two places

    def drops(self) -> Iterator[nn.Module]:
        """All that drop values."""
        return (module for module in self.modules() if isinstance(module, nn.Dropout))


def recurse(device: str) -> list[Comparison]:
    """The mode reaches every module, and only downwards."""

    def modes(root: nn.Module) -> set[bool]:
        return {module.training for module in root.modules()}

    def facts() -> list[Comparison]:
        tree = _Tree().to(device)
        count = sum(1 for _ in tree.modules())
        found = [fact("modules", count, 17), fact("a new module trains", modes(tree), {True})]
        for name, call, right in (
            ("eval()", tree.eval, False),
            ("train()", tree.train, True),
            ("train(False)", partial(tree.train, False), False),
            ("train(True)", partial(tree.train, True), True),
        ):
            found.append(fact(f"{name} gives the module", call() is tree, True))
            found.append(fact(name, modes(tree), {right}))
        tree.named["b"].eval()
        found += [
            fact("a child's eval() reaches its own", modes(tree.named["b"]), {False}),
            fact("and not its parent", (tree.training, modes(tree.own)), (True, {True})),
            fact("train() takes no text", refusal(partial(tree.train, "no"))[:10], "ValueError"),  # type: ignore[arg-type]
        ]
        tree.eval().add_module("late", nn.Dropout(0.5))
        found.append(fact("a late child keeps its own mode", modes(tree), {True, False}))
        return found

    return attempted_all("recurse", facts)


def behave(device: str) -> list[Comparison]:
    """Layers far down follow their root: dropping in train(), silent in eval(), and back."""

    def facts() -> list[Comparison]:
        x = integers((_ROWS, 512), 31) * 2 + 1
        tree, tensor = _Tree().to(device), put(x, device)
        found = []
        for turn, training in enumerate((False, True, False)):
            tree.train(training)
            for place, module in enumerate(tree.drops()):
                out = module(tensor).cpu().numpy()
                name = f"turn {turn}, dropout {place}, {'train' if training else 'eval'}"
                if training:  # of 4096 values with p = 0.5, fewer than 1664 zeros are 12 sigma off
                    zeros = int((out == 0).sum())
                    found.append(fact(f"{name}: drops", 1664 <= zeros <= 2432, True))
                else:
                    found.append(compare(name, out, x.astype(np.float32)))
        return found

    return attempted_all("behave", facts)


def no_mode(device: str) -> list[Comparison]:
    """Layers without a mode give NumPy's answer in train() and in eval(), with equal bits."""
    x, rows = integers((2, 3, 6, 6), 15), integers((_ROWS, _FEATURES), 15)
    # 2 x 2: for 3 x 3 a library may choose Winograd's algorithm, which rounds integers.
    kernel, weight = integers((4, 3, 2, 2), 7, 2), integers((5, _FEATURES), 7, 3)
    # (2, 3, 5, 5, 2, 2): every window that the kernel meets
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    pooled = x.reshape(2, 3, 3, 2, 3, 2)
    exact: dict[str, tuple[nn.Module, Array, Array]] = {
        "Linear": (_with(nn.Linear(_FEATURES, 5, bias=False), weight), rows, rows @ weight.T),
        "Conv2d": (
            _with(nn.Conv2d(3, 4, 2, bias=False), kernel),
            x,
            np.einsum("nchwij,kcij->nkhw", windows, kernel),
        ),
        "MaxPool2d": (nn.MaxPool2d(2), x, pooled.max(axis=(3, 5))),
        "AvgPool2d": (nn.AvgPool2d(2), x, pooled.mean(axis=(3, 5))),
        "ReLU": (nn.ReLU(), x, np.maximum(x, 0.0) + 0.0),
    }
    norms: dict[str, tuple[nn.Module, Array, tuple[int, ...]]] = {
        "LayerNorm": (nn.LayerNorm(_FEATURES), x, (3,)),
        "GroupNorm": (nn.GroupNorm(1, 3), x, (1, 2, 3)),
        "InstanceNorm2d": (nn.InstanceNorm2d(3), x, (2, 3)),
    }

    def both(name: str, module: nn.Module, array: Array, right: Array, allowed: Any) -> list[Any]:
        module.to(device)
        tensor = put(array, device)
        outs = [module.train(mode)(tensor).detach() for mode in (True, False)]
        expected = right if allowed is not None else right.astype(np.float32)
        return [
            *(
                compare(f"{name}, {mode}", out + 0.0, expected, allowed)
                for mode, out in zip(("train", "eval"), outs, strict=True)
            ),
            compare(f"{name}, both modes", outs[1], outs[0].cpu().numpy()),
        ]

    found = []
    for name, (module, array, right) in exact.items():
        case = partial(both, name, module, array, right, None)
        found += attempted_all(name, case)
    for name, (module, array, axes) in norms.items():
        mean, var = array.mean(axis=axes, keepdims=True), array.var(axis=axes, keepdims=True)
        right = (array - mean) / np.sqrt(var + 1e-5)
        count = array.size // mean.size
        # As in norm.py: sums of `count` values, then x a - mean a, of the size of both.
        kappa = float(np.sqrt(1 + mean**2 / var).max())
        size = (np.abs(array) + np.abs(mean)) / np.sqrt(var)
        allowed = (count + 16) * FLOAT32_UNIT * kappa * size
        found += attempted_all(name, partial(both, name, module, array, right, allowed))
    return found


def _with(module: Any, weight: Array) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
    return module  # type: ignore[no-any-return]


def random_slope(device: str) -> list[Comparison]:
    """RReLU draws its negative slope in train(), and uses the middle one in eval()."""

    def facts() -> list[Comparison]:
        module = nn.RReLU(0.25, 0.75)
        x = integers((4096,), 31) * 2 + 1
        drawn = module(put(x, device)).cpu().numpy()
        slopes = (drawn / x)[x < 0]
        middle = np.where(x < 0, x / 2, x).astype(np.float32)
        inside = bool(((slopes >= 0.25) & (slopes <= 0.75)).all())
        return [
            fact("train: slopes within their range", inside, True),
            fact("train: slopes differ", bool(np.ptp(slopes) > 0.4), True),
            compare("train: positive values", drawn[x > 0], middle[x > 0]),
            compare("eval", module.eval()(put(x, device)), middle),
        ]

    return attempted_all("RReLU", facts)


def independence(device: str) -> list[Comparison]:
    """In eval() a row's answer does not depend on the rows beside it."""

    def facts() -> list[Comparison]:
        weight = integers((5, _FEATURES), 7, 3)
        linear = _with(nn.Linear(_FEATURES, 5, bias=False), weight)
        norm = nn.BatchNorm1d(5)
        with torch.no_grad():
            norm.running_mean.fill_(2.0)  # type: ignore[union-attr,operator]
            norm.running_var.fill_(3.0)  # type: ignore[union-attr,operator]
        model = nn.Sequential(linear, norm, nn.Dropout(0.5), nn.ReLU()).to(device).eval()
        rows = integers((_ROWS, _FEATURES), 15)
        rows[1::2] *= 64  # neighbours of another size would show in shared statistics
        right = np.maximum((rows @ weight.T - 2) / np.sqrt(3 + 1e-5), 0)
        allowed = 16 * FLOAT32_UNIT * (np.abs(rows @ weight.T) + 2)
        whole = model(put(rows, device)).detach()
        found = [compare("whole batch", whole, right, allowed)]
        for row in range(_ROWS):
            alone = model(put(rows[row : row + 1], device)).detach()
            part = slice(row, row + 1)
            found.append(compare(f"row {row} alone", alone, right[part], allowed[part]))
            if torch.device(device).type == "cpu":  # a GPU may choose another kernel by the size
                found.append(compare(f"row {row}, bits", alone, whole[part].numpy()))
        turned = model(put(rows[::-1], device)).detach()
        found.append(compare("reversed batch", turned, right[::-1], allowed[::-1]))
        return found

    return attempted_all("independence", facts)


def gradients(device: str) -> list[Comparison]:
    """eval() is not no_grad(), and no_grad() is not eval()."""

    def facts() -> list[Comparison]:
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).to(device)
        x = put(integers((2, 4)), device)
        required = [parameter.requires_grad for parameter in model.eval().parameters()]
        found = [
            fact("eval() leaves requires_grad", required, [True, True]),
            fact("a result in eval() has a graph", model(x).grad_fn is not None, True),
        ]
        with torch.no_grad():
            found.append(fact("no_grad() leaves the mode", model.train().training, True))
            ones = torch.ones(4096, device=device)
            dropped = int((model[1](ones) == 0).sum().item())
            found.append(fact("dropout drops in no_grad()", 1664 <= dropped <= 2432, True))
        return found

    return attempted_all("gradients", facts)


def attention(device: str) -> list[Comparison]:
    """Attention without dropout: train(), eval() and the fused path of eval() give one answer.

    Every stage is a sum of at most 16 terms of size at most 8, and LayerNorm divides by deviations
    of at least 1/8: 2^12 units in all are far above what rounding does. The CPU is held to it in
    float64; elsewhere float32 is what the fused path is made for, and its products may be TF32 by
    choice, whose unit is 2^-11.
    """
    on_cpu = torch.device(device).type == "cpu"
    dtype = torch.float64 if on_cpu else torch.float32
    allowed = 2.0**12 * 2.0**-53 if on_cpu else 2.0**4 * 2.0**-11
    batch, length, width, heads = 2, 5, 8, 2
    x = integers((batch, length, width), 9, 4) / 4

    def made(module: Any) -> Any:
        with torch.no_grad():
            for seed, parameter in enumerate(module.parameters()):
                values = integers(tuple(parameter.shape), 9, seed + 1) / 16
                parameter.copy_(torch.from_numpy(values))
        return module.to(device, dtype)

    def answer(module: Any) -> Array:
        value = {name: v.detach().cpu().double().numpy() for name, v in module.named_parameters()}
        projected = x @ value["in_proj_weight"].T + value["in_proj_bias"]  # (B, L, 3 E)
        # (3, B, H, L, E / H)
        query, key, other = projected.reshape(batch, length, 3, heads, width // heads).transpose(
            2, 0, 3, 1, 4
        )
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(width // heads)  # (B, H, L, L)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        joined = (weights @ other).transpose(0, 2, 1, 3).reshape(batch, length, width)
        return np.asarray(joined @ value["out_proj.weight"].T + value["out_proj.bias"])

    def layer_norm(values: Array, module: Any) -> Array:
        mean, var = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
        weight, bias = (p.detach().cpu().double().numpy() for p in (module.weight, module.bias))
        return np.asarray((values - mean) / np.sqrt(var + module.eps) * weight + bias)

    def modes(name: str, call: Callable[[], torch.Tensor], module: Any, right: Array) -> list[Any]:
        module.train()
        outs = {"train": call().detach()}
        module.eval()
        outs["eval"] = call().detach()
        with torch.no_grad():  # where the fused path is taken
            outs["eval, no_grad"] = call()
        return [compare(f"{name}, {k}", out, right, allowed) for k, out in outs.items()]

    def multihead() -> list[Comparison]:
        module = made(nn.MultiheadAttention(width, heads, batch_first=True))
        tensor = put(x, device, dtype)
        call = partial(module, tensor, tensor, tensor, need_weights=False)
        return modes("MultiheadAttention", lambda: call()[0], module, answer(module))

    def encoder() -> list[Comparison]:
        module = made(nn.TransformerEncoderLayer(width, heads, 16, dropout=0.0, batch_first=True))
        tensor = put(x, device, dtype)
        middle = layer_norm(x + answer(module.self_attn), module.norm1)
        first, second = (
            [p.detach().cpu().double().numpy() for p in (layer.weight, layer.bias)]
            for layer in (module.linear1, module.linear2)
        )
        hidden = np.maximum(middle @ first[0].T + first[1], 0)
        right = layer_norm(middle + hidden @ second[0].T + second[1], module.norm2)
        return modes("TransformerEncoderLayer", lambda: module(tensor), module, right)

    return [
        *attempted_all("MultiheadAttention", multihead),
        *attempted_all("TransformerEncoderLayer", encoder),
    ]
