"""nn.TransformerEncoderLayer: the fused path of inference and the plain one."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.gradients import tensor
from probes.kit.layer import SINGLES, compared
from probes.kit.operands import coarse
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.rounding import Array, Rounded, exact, exponential, selected, square_root
from probes.kit.trial import Custom, Trial

_BATCH, _LENGTH, _HEADS, _SIZE, _HIDDEN = 2, 6, 2, 4, 12
_WIDTH: Final = _HEADS * _SIZE
_EPS: Final = 2.0**-7

_erf: Final = np.vectorize(math.erf)


class Setting(NamedTuple):
    """One way of making the layer."""

    activation: str = "relu"
    norm_first: bool = False
    padding: bool = False
    causal: bool = False


_SETTINGS: Final = (
    Setting(),
    Setting(norm_first=True),
    Setting("gelu", norm_first=True),
    Setting(padding=True),
    Setting(causal=True),
)

#: Parameter -> its shape.
_PARAMETERS: Final = {
    "self_attn.in_proj_weight": (3 * _WIDTH, _WIDTH),
    "self_attn.in_proj_bias": (3 * _WIDTH,),
    "self_attn.out_proj.weight": (_WIDTH, _WIDTH),
    "self_attn.out_proj.bias": (_WIDTH,),
    "linear1.weight": (_HIDDEN, _WIDTH),
    "linear1.bias": (_HIDDEN,),
    "linear2.weight": (_WIDTH, _HIDDEN),
    "linear2.bias": (_WIDTH,),
    "norm1.weight": (_WIDTH,),
    "norm1.bias": (_WIDTH,),
    "norm2.weight": (_WIDTH,),
    "norm2.bias": (_WIDTH,),
}


def transformer(device: str) -> Iterator[Trial]:
    """Each setting in training, and in eval() with a graph and without one."""
    for setting in _SETTINGS:
        for dtype in floats(device):
            if dtype in SINGLES:
                yield Custom("TransformerEncoderLayer", partial(_compare, setting, dtype), dtype)


def _values() -> dict[str, Array]:
    return {
        name: coarse(shape, 0.5, 1.5, 272)
        if name.startswith("norm")
        else coarse(shape, -0.4, 0.4, 273 + place)
        for place, (name, shape) in enumerate(_PARAMETERS.items())
    }


def _compare(setting: Setting, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    right = _expected(setting, UNIT_ROUNDOFF[dtype])
    layer = _module(setting, device, dtype)
    x = tensor(_inputs(), device, dtype)
    hidden = torch.from_numpy(~_seen()).to(device) if setting.padding else None
    name = ", ".join(
        str(part)
        for part in (
            setting.activation,
            f"norm_first={setting.norm_first}",
            f"padding={setting.padding}",
            f"causal={setting.causal}",
        )
    )
    seen = _seen()
    # The fused path of GPUs has the tanh form of gelu, whatever was asked for.
    plain_alone = setting.activation == "gelu" and torch.device(device).type != "cpu"
    mask = torch.from_numpy(~_visible(setting)).to(device) if setting.causal else None
    for way in ("train", "graph") if plain_alone else ("train", "graph", "no graph"):
        layer.train(way == "train")
        with torch.set_grad_enabled(way != "no graph"):
            out = layer(x, src_mask=mask, src_key_padding_mask=hidden)
        label = f"TransformerEncoderLayer ({name}, {str(dtype).removeprefix('torch.')}, {way})"
        if setting.padding:  # the output at padding is not documented
            out = out[torch.from_numpy(seen).to(device)]
            yield from compared(label, out, right[seen], dtype)
        else:
            yield from compared(label, out, right, dtype)


def _module(setting: Setting, device: str, dtype: torch.dtype) -> Any:
    with torch.random.fork_rng(devices=[]):  # the initial values are drawn on the host
        layer: Any = nn.TransformerEncoderLayer(
            _WIDTH,
            _HEADS,
            _HIDDEN,
            dropout=0.0,
            activation=setting.activation,
            layer_norm_eps=_EPS,
            batch_first=True,
            norm_first=setting.norm_first,
        )
    values = _values()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.from_numpy(values[name]))
    return layer.to(device, dtype).eval()


def _inputs() -> Array:
    return coarse((_BATCH, _LENGTH, _WIDTH), -1.5, 1.5, 271)


def _seen() -> Any:
    """(B, L): the second sequence is shorter."""
    return np.arange(_LENGTH) < np.array([[_LENGTH], [_LENGTH - 3]])


def _visible(setting: Setting) -> Any:
    """(L, L): what each place may attend to."""
    everything = np.ones((_LENGTH, _LENGTH), bool)
    return np.tril(everything) if setting.causal else everything


def _expected(setting: Setting, unit: float) -> Rounded:
    """The output, with the bound on its error."""
    p = {name: exact(values, unit) for name, values in _values().items()}
    x = exact(_inputs(), unit)
    if setting.norm_first:
        x = x + _attention(_norm(x, p, "norm1"), p, setting)
        return x + _feed_forward(_norm(x, p, "norm2"), p, setting)
    x = _norm(x + _attention(x, p, setting), p, "norm1")
    return _norm(x + _feed_forward(x, p, setting), p, "norm2")


def _norm(x: Rounded, p: dict[str, Rounded], name: str) -> Rounded:
    middle = x - x.mean(-1)
    factor = 1 / square_root((middle * middle).mean(-1) + _EPS)
    return middle * factor * p[f"{name}.weight"] + p[f"{name}.bias"]


def _linear(x: Rounded, p: dict[str, Rounded], name: str) -> Rounded:
    separator = "_" if name.endswith("in_proj") else "."
    return x @ p[f"{name}{separator}weight"].T + p[f"{name}{separator}bias"]


def _attention(x: Rounded, p: dict[str, Rounded], setting: Setting) -> Rounded:
    projected = _linear(x, p, "self_attn.in_proj")  # (B, L, 3 E)

    def heads(part: int) -> Rounded:
        """(B, H, L, E / H)."""
        columns = projected[:, :, part * _WIDTH : (part + 1) * _WIDTH]
        return columns.moved(
            lambda array: array.reshape(_BATCH, _LENGTH, _HEADS, _SIZE).transpose(0, 2, 1, 3)
        )

    query, key, value = map(heads, range(3))
    scores = (query @ key.moved(lambda array: array.swapaxes(2, 3))) * _SIZE**-0.5
    grown = exponential(scores - scores.value.max(-1, keepdims=True))
    if setting.padding:
        grown = selected(np.broadcast_to(_seen()[:, None, None], grown.value.shape), grown, 0.0)
    if setting.causal:
        grown = selected(np.broadcast_to(_visible(setting), grown.value.shape), grown, 0.0)
    mixed = (grown / grown.total(-1)) @ value
    joined = mixed.moved(lambda array: array.transpose(0, 2, 1, 3).reshape(_BATCH, _LENGTH, _WIDTH))
    return _linear(joined, p, "self_attn.out_proj")


def _feed_forward(x: Rounded, p: dict[str, Rounded], setting: Setting) -> Rounded:
    hidden = _linear(x, p, "linear1")
    if setting.activation == "relu":
        active = selected(hidden.value > 0, hidden, 0.0)
    else:
        share = (1 + _erf(hidden.value / math.sqrt(2))) / 2
        # An erf of float32 may be off by 2.5e-7, four units; its slope is below 1.
        active = hidden * hidden.mapped(share, np.ones_like(share), 1.0)
    return _linear(active, p, "linear2")
