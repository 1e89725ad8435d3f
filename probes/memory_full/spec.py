"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

_CHECKS: Final = {
    "constants": "zeros, ones and both alternating patterns read back",
    "own_address": "each word reads back as a hash of its own address",
    "inversion": "each bit goes from one value to the other and back, block by block, up and down",
    "random": "words that no run had before read back",
    "retention": "random words and their complement are there after two seconds in heat, on a GPU",
    "planted": "bits that are flipped on purpose are found, each at its place",
    "coverage": "at least 95 % of a GPU's free memory was tested",
    "error_counters": "the GPU counts no memory error and replaces no row meanwhile",
}

SPEC: Final = ProbeSpec(
    name="memory_full",
    profile="deep",
    needs="device",
    timeout_s=300,
    typical_s=5,
    interval_s=86400,
    memory_bytes=16 * MIB,
    optional_memory_bytes=160 * MIB,  # products, and most of it what their library takes
    checks=_CHECKS,
    alone=True,
)
