"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import INTEGERS, MIB, ProbeSpec

_CHECKS: Final = {
    "sums": "sums, counts, means and scans count every element, exactly",
    "extremes": "the place of an extreme is right up to the last element",
    "elementwise": "each element is computed, the last one too",
    "copies": "copies, transposes, conversions and fills reach every element",
    "joins": "joined, repeated and split tensors have each element in its place",
    "gathers": "elements are read from every address, and found by their value",
    "scatters": "elements are written at every address, and nowhere else; duplicates add up",
    "ordering": "sorts, searches and sets of a million elements are right",
    "products": "products of millions of rows, and of more matrices than a launch has blocks",
    "rows": "normalisations and pooling over more rows than a launch has blocks, and long rows",
    "activations": "functions of each element and their gradients, in float32 and bfloat16",
    "losses": "losses of a million rows and of a million classes, with their gradients",
    "images": "convolutions, pooling and interpolation of many images, with their gradients",
    "gradients": "gradients of moves, reductions, products and tables; terms at one place add up",
    "draws": "every part of a large draw has its mean, and no part is drawn twice",
    "optimizers": "a step, a norm and a search for infinities reach every element of a parameter",
}

SPEC: Final = ProbeSpec(
    name="large_tensors",
    profile="standard",
    needs="device",
    preload=("torch._dynamo",),
    timeout_s=240,
    typical_s=6,
    interval_s=3600,
    # Trials with larger tensors ask at run time what is free, and are left out where it is little.
    memory_bytes=16 * MIB,
    optional_memory_bytes=9 * 1024 * MIB,  # 2^31 elements of 4 bytes in all
    checks=_CHECKS,
    certain=dict.fromkeys(("sums", "extremes", "copies", "joins", "gathers", "scatters"), INTEGERS),
)
