"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import BITS, INTEGERS, MIB, ProbeSpec

#: What the largest operands take, with copies of them: 32 MiB each.
ROOM_BYTES: Final = 160 * MIB

SPEC: Final = ProbeSpec(
    name="matmul",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=2.5,  # on two cores
    interval_s=3600,
    memory_bytes=16 * MIB,
    optional_memory_bytes=ROOM_BYTES,
    checks={
        "shapes": "products of odd, long and flat matrices are exact in every type and library",
        "layouts": "operands and results of every layout and alignment give the same product",
        "many_terms": "long sums are exact, with sums of half types shortened or not",
        "batches": "each product of a batch is exact, whatever the strides",
        "added": "alpha, beta and a bias are applied as asked for; beta=0 ignores NaN",
        "not_finite": "NaN and infinities reach their row and column, and nothing else",
        "float32": "products in float32 keep 24 bits where TF32 is not allowed",
        "int8": "products of int8 are exact in int32",
        "float8": "products of float8 with scales are exact in float32 and in half types",
        "out_dtype": "products of half types come out in float32 where that is asked for",
    },
    certain={
        **dict.fromkeys(("shapes", "layouts", "many_terms", "batches", "added"), BITS),
        "int8": INTEGERS,
    },
)
