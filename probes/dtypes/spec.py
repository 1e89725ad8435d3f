"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import BITS, INTEGERS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="dtypes",
    profile="standard",
    needs="device",
    timeout_s=240,
    interval_s=3600,
    memory_bytes=16 * MIB,  # no tensor is larger than 256 KiB
    checks={
        "comparisons": "comparisons, extremes, limits and selections of integers, in every type",
        "arithmetic": "sums, products, quotients and remainders of integers, in every type",
        "in_place": "operations ending in _ change the variable and return it, in every type",
        "logic": "bitwise and logical operations of integers and booleans",
        "moving": "views, joins, gathers and writes keep every bit, in every type",
        "creation": "factories give the values, shape and type asked for, in every type",
        "reductions": "sums, means, products, extremes, scans and sorts, in every type",
        "products": "exact products of matrices, batched and by groups, of complex numbers too",
        "functions": "functions of half types and of integers, windows, distances, inverses",
        "gradients": "gradients in half types, of complex numbers and of in-place operations",
        "draws": "draws in each floating type have the right mean, variance and shares (6 sigma)",
    },
    certain={
        "moving": BITS,
        **dict.fromkeys(("arithmetic", "in_place", "logic", "comparisons"), INTEGERS),
    },
)
