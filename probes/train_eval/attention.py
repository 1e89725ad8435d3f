"""Attention without dropout: one answer in train(), in eval() and on the fused path."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from probes.contract import Comparison
from probes.kit.references import attempted_all, compare
from probes.train_eval.state import FLOAT32_UNIT, Array, integers, product_unit, put


def attention(device: str) -> list[Comparison]:
    """Attention without dropout: train(), eval() and the fused path of eval() give one answer.

    Every stage is a sum of at most 16 terms of size at most 8, and LayerNorm divides by deviations
    of at least 1/8: 2^12 units in all are far above what rounding does. The CPU is held to it in
    float64; elsewhere float32 is what the fused path is made for. Where the environment makes
    products shorter whatever torch says, 2^5 of their units: only a gross error shows there.
    """
    on_cpu = torch.device(device).type == "cpu"
    dtype = torch.float64 if on_cpu else torch.float32
    unit = product_unit(device)
    allowed = 2.0**12 * (2.0**-53 if on_cpu else unit)
    if not on_cpu and unit > FLOAT32_UNIT:
        allowed = 2.0**5 * unit
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
        # Each (B, H, L, E / H).
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
        *attempted_all("MultiheadAttention", multihead, device),
        *attempted_all("TransformerEncoderLayer", encoder, device),
    ]
