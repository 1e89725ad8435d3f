"""The probe's cost, schedule, limits and checks. Does not import torch."""

from typing import Final

from pydantic import Field

from probes.contract import BITS, MIB, Frozen, ProbeSpec


class Limits(Frozen):
    """How long products are verified, in all types together."""

    #: Seconds on a device other than the CPU.
    seconds: float = Field(default=10.0, gt=0, le=600)
    #: Seconds on the CPU.
    cpu_seconds: float = Field(default=0.5, gt=0, le=600)


_CHECKS: Final = {
    "planted": "bits that are flipped on purpose in a result are found, each at its place",
    "bfloat16": "every product of bfloat16 has the bits that the host computed",
    "float16": "every product of float16 has the bits that the host computed",
    "tf32": "every product of float32 with TF32 allowed has the bits that the host computed",
    "float32": "every product of float32 has the bits that the host computed",
    "float64": "every product of float64 has the bits that the host computed",
    "int8": "every product of int8 has the bits that the host computed",
    "float8": "every product of float8 has the bits that the host computed",
}

#: Most that operands and results of one type take.
ROOM_BYTES: Final = 2560 * MIB

SPEC: Final = ProbeSpec(
    name="hot_products",
    profile="deep",
    needs="device",
    timeout_s=900,
    typical_s=11,
    interval_s=86400,
    memory_bytes=16 * MIB,
    optional_memory_bytes=ROOM_BYTES,
    checks=_CHECKS,
    certain=dict.fromkeys(("bfloat16", "float16", "tf32", "float32", "float64", "int8"), BITS),
    alone=True,
    limits=Limits,
)
