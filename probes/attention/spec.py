"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="attention",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=4,
    interval_s=3600,
    memory_bytes=16 * MIB,  # no tensor is larger than 1 MiB
    checks={
        "plain": "without a mask, at many lengths, head sizes and layouts",
        "causal": "is_causal lets each query see the keys up to its own, and no other",
        "masks": "masks of bool and of float act where they are, broadcast over batch and heads",
        "scale": "a given scale takes the place of 1/sqrt(d)",
        "grouped_heads": "with enable_gqa each group of query heads has its own key and value head",
        "not_finite": "NaN and infinities in values reach every query that sees them",
        "gradients": "the gradients of query, key, value and of a float mask",
        "dropout": "dropout_p drops its share of the probabilities, scales the others, and so back",
        "kernels": "each kernel that can be asked for by name is right, forward and backward",
        "module": "nn.MultiheadAttention: masks, weights, gradients, and no dropout in eval",
    },
)
