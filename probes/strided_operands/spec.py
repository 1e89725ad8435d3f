"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import BITS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="strided_operands",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=3,
    interval_s=3600,
    memory_bytes=16 * MIB,  # no tensor is larger than 64 KiB
    checks={
        "elementwise": "functions, arithmetic, comparisons and selections, in every layout",
        "broadcasting": "axes of one element, missing axes and no elements, whatever their strides",
        "alignment": "vectors that start and end anywhere, in types of every width",
        "reductions": "sums, means, extremes and norms over each dimension, in every layout",
        "ordering": "scans, sorts and selections over each dimension, in every layout",
        "products": "matrix products of sliced, transposed, expanded and overlapping operands",
        "copies": "copies, conversions, joins, flips and windows keep every bit, in every layout",
        "indexing": "gathers and scatters with indices, masks and values of every layout",
        "rows": "softmax and normalisations with weights of every layout, channels_last too",
        "windows": "convolutions and pooling of images of every layout, in one to three dimensions",
        "losses": "losses with expanded inputs, targets and weights",
        "gradients": "gradients from upstream gradients, and of parameters, of every layout",
        "out": "out= of every layout is written where its elements lie, and nowhere else",
        "in_place": "views are changed where their elements lie, and nothing else",
    },
    certain={"copies": BITS},
)
