"""Attention without dropout: the same answer in train(), in eval() and on the fused path."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, product_unit, to_tensor


def attention(device: str) -> list[Comparison]:
    """Compare attention without dropout in train(), in eval() and on the fused path of eval().

    Every stage is a sum of at most 16 terms of size at most 8, and LayerNorm divides by deviations
    of at least 1/8, so rounding stays far below the bound of 2^12 units. The CPU is compared in
    float64, other devices in float32, for which their fused path is made. Where the environment
    shortens products whatever torch says, the bound is 2^5 of their units: it finds large errors.
    """
    on_cpu = torch.device(device).type == "cpu"
    dtype = torch.float64 if on_cpu else torch.float32
    unit = product_unit(device)
    allowed = 2.0**12 * (2.0**-53 if on_cpu else unit)
    if not on_cpu and unit > FLOAT32_UNIT:
        allowed = 2.0**5 * unit
    batch, length, width, heads = 2, 5, 8, 2
    x = integers((batch, length, width), 9, 4) / 4

    def with_fixed_parameters(module: Any) -> Any:
        with torch.no_grad():
            for seed, parameter in enumerate(module.parameters()):
                values = integers(tuple(parameter.shape), 9, seed + 1) / 16
                parameter.copy_(torch.from_numpy(values))
        return module.to(device, dtype)

    def expected_attention(module: Any) -> Array:
        parameters = {
            name: v.detach().cpu().double().numpy() for name, v in module.named_parameters()
        }
        projected = x @ parameters["in_proj_weight"].T + parameters["in_proj_bias"]  # (B, L, 3 E)
        # Each (B, H, L, E / H).
        query, key, value_heads = projected.reshape(
            batch, length, 3, heads, width // heads
        ).transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(width // heads)  # (B, H, L, L)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        joined = (weights @ value_heads).transpose(0, 2, 1, 3).reshape(batch, length, width)
        return np.asarray(joined @ parameters["out_proj.weight"].T + parameters["out_proj.bias"])

    def layer_norm(values: Array, module: Any) -> Array:
        mean, var = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
        weight, bias = (p.detach().cpu().double().numpy() for p in (module.weight, module.bias))
        return np.asarray((values - mean) / np.sqrt(var + module.eps) * weight + bias)

    def compare_modes(
        name: str, call: Callable[[], torch.Tensor], module: Any, expected: Array
    ) -> list[Any]:
        module.train()
        outs = {"train": call().detach()}
        module.eval()
        outs["eval"] = call().detach()
        with torch.no_grad():  # here torch takes the fused path
            outs["eval, no_grad"] = call()
        return [compare(f"{name}, {k}", out, expected, allowed) for k, out in outs.items()]

    def multihead() -> list[Comparison]:
        module = with_fixed_parameters(nn.MultiheadAttention(width, heads, batch_first=True))
        tensor = to_tensor(x, device, dtype)
        call = partial(module, tensor, tensor, tensor, need_weights=False)
        return compare_modes(
            "MultiheadAttention", lambda: call()[0], module, expected_attention(module)
        )

    def encoder() -> list[Comparison]:
        module = with_fixed_parameters(
            nn.TransformerEncoderLayer(width, heads, 16, dropout=0.0, batch_first=True)
        )
        tensor = to_tensor(x, device, dtype)
        middle = layer_norm(x + expected_attention(module.self_attn), module.norm1)
        first, second = (
            [p.detach().cpu().double().numpy() for p in (layer.weight, layer.bias)]
            for layer in (module.linear1, module.linear2)
        )
        hidden = np.maximum(middle @ first[0].T + first[1], 0)
        expected = layer_norm(middle + hidden @ second[0].T + second[1], module.norm2)
        return compare_modes("TransformerEncoderLayer", lambda: module(tensor), module, expected)

    return [
        *attempted_all("MultiheadAttention", multihead, device),
        *attempted_all("TransformerEncoderLayer", encoder, device),
    ]
