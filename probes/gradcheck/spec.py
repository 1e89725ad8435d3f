"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="gradcheck",
    profile="standard",
    needs="device",
    timeout_s=240,
    interval_s=3600,
    # As part of `autograd`, from which its checks come.
    memory_bytes=548 * MIB,
    memory_measured="NVIDIA H200, torch 2.11.0+cu130",
    # Modules that gradcheck and backward(gradient=...) import on first use.
    preload=("torch.fx.experimental.symbolic_shapes", "torch.utils._device"),
    checks={
        "defaults": "derivatives equal finite differences within gradcheck's default bounds",
        "tight": "derivatives equal finite differences to one millionth",
        "second_order": "second derivatives equal finite differences to one millionth",
        "batched": "a Jacobian from one batched backward is exact",
        "vector_refused": "backward() of several numbers is refused without a fitting gradient",
        "vector_jacobian": "backward() with a gradient adds the vector-Jacobian product",
    },
)
