"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

_CHECKS: Final = {
    "fp16": "tensor cores multiply float16 exactly, each by name",
    "bf16": "tensor cores multiply bfloat16 exactly, each by name",
    "tf32": "tensor cores multiply TF32 exactly, each by name",
    "int8": "tensor cores multiply int8 exactly, each by name",
    "fp64": "tensor cores multiply float64 exactly, each by name",
    "fp8_e4m3": "tensor cores multiply float8_e4m3 exactly, where mma.sync reaches their fp8 units",
    "fp8_e5m2": "tensor cores multiply float8_e5m2 exactly, where mma.sync reaches their fp8 units",
    "fma_fp32": "float32 FMA units round as IEEE 754 says, each by name",
    "fma_fp64": "float64 FMA units round as IEEE 754 says, each by name",
    "mad_int32": "integer units multiply and add modulo 2^32, each by name",
    "planted": "operands that are changed on purpose change the answer as the host says",
    "coverage": "every multiprocessor and its four sub-partitions have computed in each type",
}

SPEC: Final = ProbeSpec(
    name="tensor_cores",
    profile="deep",
    needs="device",
    timeout_s=120,
    typical_s=4,  # the burst that heats takes 1.5 s, NVRTC up to 0.5 s; not measured as a whole
    interval_s=86400,
    memory_bytes=16 * MIB,
    checks=_CHECKS,
    alone=True,
)
