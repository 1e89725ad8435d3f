"""nn.MultiheadAttention: both projections, masks, weights and gradients; no dropout in eval."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from probes.attention.bounds import units
from probes.attention.layer import Layer, Setting, layer
from probes.attention.layer_reference import expected, gradients
from probes.attention.running import compare_bounded, name_of
from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.gradients import root, tensor
from probes.kit.trial import Custom, Trial

_SETTINGS: Final = (
    Setting("self-attention"),
    Setting("causal", mask="causal"),
    Setting("padding and mask", mask="bool", padding=True, weights="heads"),
    Setting("cross-attention", mask="float", keys=25, weights="mean", batch_first=False),
)

#: Dropout of the modules in eval(), where it has no effect.
_DROPOUT: Final = 0.5

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def module(device: str) -> Iterator[Trial]:
    """Each setting in each type."""
    for setting in _SETTINGS:
        for dtype in floats(device):
            name = f"MultiheadAttention {name_of(dtype)}"
            yield Custom(name, partial(_compare, setting, dtype), dtype)


def _compare(setting: Setting, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    by = units(device, dtype)
    each, right = layer(setting), expected(setting, by)
    label = f"MultiheadAttention {name_of(dtype)} ({setting.name}, "
    for mode, dropout in (("train", 0.0), ("eval", _DROPOUT), ("eval, no_grad", _DROPOUT)):
        attention = _module(each, dropout, device, dtype).train(mode == "train")
        inputs = _inputs(each, device, dtype)
        with torch.set_grad_enabled("no_grad" not in mode):
            out, weights = attention(*inputs, **_options(each, device, dtype))
        batched = out if setting.batch_first else out.transpose(0, 1)
        yield from compare_bounded(f"{label}{mode})", batched, right.output, dtype, by)
        if right.weights is not None:
            yield from compare_bounded(
                f"{label}{mode}, weights)", weights, right.weights, dtype, by
            )
        if mode == "eval":
            yield from _compare_gradients(each, attention, inputs, out, label, dtype, device)


def _compare_gradients(
    each: Layer,
    attention: Any,
    inputs: Inputs,
    out: torch.Tensor,
    label: str,
    dtype: torch.dtype,
    device: str,
) -> Iterator[Comparison]:
    by = units(device, dtype)
    leaves = {
        "query": inputs[0],
        "in_proj_weight": attention.in_proj_weight,
        "in_proj_bias": attention.in_proj_bias,
        "out_proj.weight": attention.out_proj.weight,
        "out_proj.bias": attention.out_proj.bias,
    }
    upstream = tensor(_placed(each, each.upstream), device, dtype)
    found = torch.autograd.grad(root(out, upstream), list(leaves.values()))
    right = gradients(each.setting, by)
    for name, gradient in zip(leaves, found, strict=True):
        batched = gradient
        if name == "query" and not each.setting.batch_first:
            batched = gradient.transpose(0, 1)
        yield from compare_bounded(f"{label}gradient of {name})", batched, right[name], dtype, by)


def _module(each: Layer, dropout: float, device: str, dtype: torch.dtype) -> Any:
    """The module with its parameters."""
    width, heads = each.query.shape[-1], each.heads
    with torch.random.fork_rng(devices=[]):  # the initial values are drawn on the host
        attention: Any = nn.MultiheadAttention(
            width, heads, dropout=dropout, batch_first=each.setting.batch_first
        )
    attention = attention.to(device, dtype)
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            parameter.copy_(tensor(each.parameters[name], device, dtype))
    return attention


def _inputs(each: Layer, device: str, dtype: torch.dtype) -> Inputs:
    """Query, key and value; in self-attention one tensor."""
    query = tensor(_placed(each, each.query), device, dtype).requires_grad_()
    if not each.setting.keys:
        return query, query, query
    key = tensor(_placed(each, each.key), device, dtype)
    return query, key, key


def _placed(each: Layer, array: Any) -> Any:
    return array if each.setting.batch_first else array.swapaxes(0, 1)


def _options(each: Layer, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """The options of the call. In masks of bool True is what is not seen."""
    setting = each.setting
    options: dict[str, Any] = {"need_weights": bool(setting.weights)}
    if setting.weights == "heads":
        options["average_attn_weights"] = False
    if setting.mask == "float":
        options["attn_mask"] = tensor(each.mask, device, dtype)
    elif setting.mask:
        options["attn_mask"] = torch.from_numpy(~each.mask).to(device)
    if setting.mask == "causal":
        options["is_causal"] = True
    if setting.padding:
        options["key_padding_mask"] = torch.from_numpy(~each.padding).to(device)
    return options
