"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="layers",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=4,
    interval_s=3600,
    # Not measured. The largest operands are 67,100 rows of 8 gates: 2 MiB, some of them at a time.
    memory_bytes=16 * MIB,
    # Imported by the first checkpoint, with hundreds of other modules.
    preload=("torch._dynamo", "torch.utils.checkpoint"),
    checks={
        "activations": "functions of one element, PReLU and GLU equal their formulas",
        "in_place": "functions of one element in place: the result and its gradient",
        "softmax": "softmax, softmin and log_softmax along the last and along an inner axis",
        "recurrent": "RNN, LSTM and GRU: layers, both directions, packed, projected",
        "recurrent_calls": "the same without states, batch or gradients, padded, and with dropout",
        "recurrent_cells": "RNNCell, LSTMCell and GRUCell",
        "recurrent_rows": "recurrent layers of more than 65,535 rows times steps",
        "weight_norm": "weights by length and direction, along the first, last and an inner axis",
        "row_norms": "LayerNorm and RMSNorm over one and over two axes",
        "group_norm": "GroupNorm with one and several groups, InstanceNorm, also in channels_last",
        "batch_norm": "BatchNorm in half types, with half and with float32 parameters",
        "frozen_input": "GroupNorm of an input without a gradient, which ends the process in "
        "channels_last on the CPU with released torch: that alone is a warning",
        "convolutions": "convolutions of half types: plain, grouped, dilated, transposed",
        "max_pooling": "maximum pooling, its indices, unpooling, fractional pooling",
        "average_pooling": "average and power pooling, with and without counted padding",
        "adaptive_pooling": "adaptive pooling to sizes that divide and that do not",
        "interpolation": "interpolate in each mode, to larger and smaller sizes",
        "sampling": "grid_sample and affine_grid in each mode and padding",
        "padding": "constant, reflected, replicated and circular padding",
        "moves": "PixelShuffle and its inverse, unfold and fold move each element to its place",
        "embedding": "rows of a table, with padding, frequency, max_norm and sparse gradients",
        "embedding_bag": "sums, means and maxima of bags, with offsets, weights and padding",
        "sizes": "softmax, norms, pooling and activations of long rows, many rows, many planes",
        "transformer": "TransformerEncoderLayer in eval, by its fused and by its plain path",
        "checkpoint": "checkpoints give the same gradients, drop the same, keep generators",
    },
    may_warn=("frozen_input", "sampling", "transformer"),
)
