"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

_CHECKS: Final = {
    "own_address": "each word of half of the free memory reads back as a hash of its own address",
    "planted": "bits that are flipped on purpose are found, each at its place",
    "coverage": "at least 45 % of a GPU's free memory was tested",
    "error_counters": "the GPU counts no memory error and replaces no row meanwhile",
}

SPEC: Final = ProbeSpec(
    name="memory_pattern",
    profile="standard",
    needs="device",
    timeout_s=200,
    interval_s=3600,
    memory_bytes=16 * MIB,
    checks=_CHECKS,
    alone=True,
)
