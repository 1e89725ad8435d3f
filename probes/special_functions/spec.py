"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import INTEGERS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="special_functions",
    profile="standard",
    needs="device",
    timeout_s=240,
    interval_s=3600,
    # As part of `tensor_ops`, from which its checks come.
    memory_bytes=264 * MIB,
    memory_measured="NVIDIA H200, torch 2.11.0+cu130",
    checks={
        "divisors": "greatest common divisors and least common multiples are exact",
        "functions": "exp2, erfc and lgamma are within a few units in the last place",
        "limits": "their limits and poles give infinities and NaN (C99 F)",
        "complex_numbers": "complex arithmetic is exact on integers, Fourier transforms in bounds",
    },
    certain={"divisors": INTEGERS},
)
