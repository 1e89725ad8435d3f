"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="compiled",
    profile="deep",
    needs="device",
    # Compilers run: some twenty seconds on two cores, and several times that on a busy host.
    timeout_s=300,
    typical_s=25,
    interval_s=86400,
    memory_bytes=16 * MIB,  # no tensor is larger than 1 MiB
    preload=("torch._dynamo",),
    checks={
        "forward": "fused operations, reductions, products and norms give the right answers",
        "gradients": "gradients through products, indexing, joins and broadcasts are exact",
        "views_and_scatters": "views and scatters into them are exact, and so are their gradients",
        "in_place": "what a function writes to its inputs, and returns of them, is as it was",
        "dynamic_shapes": "other sizes, 0 and 1 among them, get the answer for their size",
        "recompiles": "whatever a function reads is read anew: no answer of an earlier call",
        "graph_breaks": "a function compiled in parts keeps its meaning and its side effects",
        "half_types": "bfloat16 and float16 keep their type and, of small integers, their values",
        "random": "dropout drops its share, anew each time, and its gradient the same elements",
        "cache": "a cache gives back the function that was put in, and no other",
    },
)
