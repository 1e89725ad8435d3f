"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import ProbeSpec

SPEC: Final = ProbeSpec(
    name="float_mode",
    profile="quick",
    needs="host",
    timeout_s=30,
    interval_s=300,
    memory_bytes=0,
    checks={
        "python_subnormals": "Python's own arithmetic keeps subnormal numbers",
        "numpy_subnormals": "NumPy keeps subnormal numbers of float32 and float64",
        "torch_subnormals": "torch keeps subnormal numbers on the CPU, in every thread",
        "exceptions": "a division by zero or a NaN gives a result, and ends no process",
        "rounding": "Python, NumPy and torch round to the nearest number, ties to even",
    },
)
