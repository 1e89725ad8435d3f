"""Normalisation over rows, groups, instances and batches, by their formula.

With n = (x - mean) / sqrt(variance + eps), y = w n + b has for an upstream gradient g the gradients
dx = (d - mean(d) - n mean(d n)) / sqrt(variance + eps) with d = g w, dw = sum(g n), db = sum(g).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch.nn import functional

from probes.kit.layer import HALVES, Backward, Layer, Reference, trials
from probes.kit.operands import coarse
from probes.kit.rounding import Array, Rounded, square_root
from probes.kit.trial import Trial

EPS: Final = 2.0**-7

#: Small, and with rows that are no multiple of a vector; and with many elements in a group.
_PLANES: Final = ((3, 6, 10), (2, 8, 5, 3), (2, 12, 4, 4), (2, 6, 2, 3, 4))
#: Those over rows; the second in torch 2.4 and later.
ROW_NORMS: Final = ("layer_norm", *(["rms_norm"] if hasattr(functional, "rms_norm") else []))
_GROUPS: Final = {6: (1, 2, 3, 6), 8: (4,), 12: (3, 4)}


def group_norm(device: str) -> Iterator[Trial]:
    """GroupNorm with one, several and as many groups as channels, and InstanceNorm."""
    layers = []
    for shape in _PLANES:
        layers += [grouped(shape, groups) for groups in _GROUPS[shape[1]]]
        layers.append(
            Layer(
                "instance_norm",
                _instance_norm,
                _operands(shape, 231, (shape[1],)),
                _reference(shape, shape[1], centred=True),
                f"{len(shape)} axes",
                channels_last=len(shape) > 3,
            )
        )
    layers += [_in_float32(each) for each in layers[:3] if _takes_both(device)]
    yield from trials(layers, device)


def row_norms(device: str) -> Iterator[Trial]:
    """LayerNorm and RMSNorm over one and over two axes, with and without their parameters."""
    layers = []
    for shape, axes in (((5, 64), 1), ((3, 4, 65), 1), ((6, 3, 8), 2), ((2, 1030), 1)):
        for name in ROW_NORMS:
            layers += [over_rows(name, shape, axes, parameters=given) for given in (True, False)]
    layers += [_in_float32(each) for each in layers[:1] if _takes_both(device)]
    yield from trials(layers, device)


def over_rows(name: str, shape: tuple[int, ...], axes: int, *, parameters: bool = True) -> Layer:
    """LayerNorm or RMSNorm over that many of the last axes."""
    rows = shape[-axes:]
    x, *given = _operands(shape, 232, rows)
    centred = name == "layer_norm"
    call = partial(_layer_norm if centred else _rms_norm, rows)
    kept = given[: 2 if centred else 1] if parameters else []
    variant = f"{'x'.join(map(str, shape))} over {'x'.join(map(str, rows))}"
    variant += "" if parameters else ", without parameters"
    return Layer(name, call, (x, *kept), _rows(axes, centred=centred), variant)


def batch_norm(device: str) -> Iterator[Trial]:
    """BatchNorm in the half types of autocast, with the batch's statistics."""
    layers = []
    for shape in ((32, 5), (4, 3, 9), (4, 3, 6, 5), (3, 4, 2, 3, 4)):
        layer = replace(over_batch(shape), dtypes=HALVES)
        layers += [layer, _in_float32(layer)]
    yield from trials(layers, device)


def over_batch(shape: tuple[int, ...]) -> Layer:
    """BatchNorm with the batch's statistics."""
    axes = (0, *range(2, len(shape)))
    return Layer(
        "batch_norm",
        _batch_norm,
        _operands(shape, 233, (shape[1],)),
        _formula(axes, _per_channel(len(shape)), centred=True),
        "x".join(map(str, shape)),
        channels_last=len(shape) > 3,
    )


def grouped(shape: tuple[int, ...], groups: int) -> Layer:
    """GroupNorm of that many groups."""
    return Layer(
        "group_norm",
        partial(_group_norm, groups),
        _operands(shape, 230, (shape[1],)),
        _reference(shape, groups, centred=True),
        f"{'x'.join(map(str, shape))}, {groups} groups",
        channels_last=len(shape) > 3,
    )


def _operands(shape: tuple[int, ...], salt: int, parameters: tuple[int, ...]) -> tuple[Array, ...]:
    """Values around 1/2, weights from 1/2 to 2, biases."""
    x = coarse(shape, -1.5, 2.5, salt)
    return x, coarse(parameters, 0.5, 2, salt + 10), coarse(parameters, -1, 1, salt + 20)


def _group_norm(groups: int, x: Any, weight: Any, bias: Any) -> torch.Tensor:
    return functional.group_norm(x, groups, weight, bias, EPS)


def _instance_norm(x: Any, weight: Any, bias: Any) -> torch.Tensor:
    return functional.instance_norm(x, weight=weight, bias=bias, eps=EPS)


def _layer_norm(
    rows: tuple[int, ...], x: Any, weight: Any = None, bias: Any = None
) -> torch.Tensor:
    return functional.layer_norm(x, rows, weight, bias, EPS)


def _rms_norm(rows: tuple[int, ...], x: Any, weight: Any = None) -> torch.Tensor:
    return functional.rms_norm(x, rows, weight, EPS)


def _batch_norm(x: Any, weight: Any, bias: Any) -> torch.Tensor:
    return functional.batch_norm(x, None, None, weight, bias, training=True, eps=EPS)


def _takes_both(device: str) -> bool:
    """Whether norms of rows and groups take half operands with float32 parameters; CUDA's raise."""
    return torch.device(device).type == "cpu"


def _in_float32(each: Layer) -> Layer:
    """The layer with parameters in float32 beside operands in a half type, as autocast has them."""

    def call(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return each.call(x, *(parameter.float() for parameter in parameters))

    return Layer(
        each.operation,
        call,
        each.operands,
        each.reference,
        f"{each.variant}, float32 parameters",
        HALVES,
        each.channels_last,
    )


def _like(parameter: Rounded, gradient: Rounded) -> Rounded:
    return gradient.moved(lambda array: array.reshape(parameter.value.shape))


Parameters = Callable[[Rounded], Rounded]  # in the shape that is broadcast to the operand's


def _per_channel(axes: int) -> Parameters:
    shape = (1, -1, *([1] * (axes - 2)))
    return lambda parameter: parameter.moved(lambda array: array.reshape(shape))


def _rows(axes: int, *, centred: bool) -> Reference:
    return _formula(tuple(range(-axes, 0)), lambda parameter: parameter, centred=centred)


def _reference(shape: tuple[int, ...], groups: int, *, centred: bool) -> Reference:
    """Over each group of channels of each image."""
    split = (shape[0], groups, -1)
    return _formula((2,), _per_channel(len(shape)), centred=centred, split=split)


def _formula(
    axes: tuple[int, ...],
    spread: Parameters,
    *,
    centred: bool,
    split: tuple[int, ...] | None = None,
) -> Reference:
    """The reference over axes, of the operand in the shape `split` where that is given."""

    def reference(x: Rounded, *parameters: Rounded) -> tuple[Rounded, Backward]:
        shape = x.value.shape

        def apart(values: Rounded) -> Rounded:
            return values if split is None else values.moved(lambda array: array.reshape(split))

        def together(values: Rounded) -> Rounded:
            return values.moved(lambda array: array.reshape(shape))

        values = apart(x)
        # Mean and factor are kept for the backward, in the half type where parameters have it.
        middle = values - values.mean(axes).stored() if centred else values
        factor = 1 / square_root((middle * middle).mean(axes) + EPS)
        normal = middle * factor.stored()
        out = together(normal)
        weight = spread(parameters[0]) if parameters else None
        out = out if weight is None else out * weight
        out = out + spread(parameters[1]) if len(parameters) > 1 else out

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            d = apart(g if weight is None else g * weight)
            kept = normal.stored()
            # The kept factor may be multiplied into each term, the third power into the second.
            inner = d.stored() - (kept * (d * kept).mean(axes)).stored(3)
            inner = inner - d.mean(axes).stored() if centred else inner
            found = [together(inner * factor)]
            for place, parameter in enumerate(parameters):
                terms = g * together(normal) if place == 0 else g
                wide = spread(parameter).value.shape
                lead = len(shape) - len(wide)
                over = (*range(lead), *(lead + axis for axis, size in enumerate(wide) if size == 1))
                found.append(_like(parameter, terms.total(over)))
            return tuple(found)

        return out, backward

    return reference
