"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import BITS, MIB, ProbeSpec

SPEC: Final = ProbeSpec(
    name="amp",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=1.5,
    interval_s=3600,
    # Not measured. The largest list of gradients has 330,000 elements.
    memory_bytes=16 * MIB,
    # Imported when the first optimizer is made and at the first checkpoint.
    preload=("torch._dynamo", "torch.utils.checkpoint"),
    checks={
        "lower_type": "operations that autocast runs in float16 or bfloat16 do, and are right",
        "float32": "operations that autocast runs in float32 do, with the accuracy of float32",
        "widest_type": "operations that autocast runs in the widest type of their operands do",
        "not_cast": "float64, integers, in-place, out= and dtype= are not cast; BCE is refused",
        "gradients": "gradients have the type of their own tensor, and go through each cast",
        "weight_cache": "a weight's cast is shared in a region, forgotten after it, and optional",
        "no_grad_cache": "after a forward in no_grad, the same region still gives gradients",
        "nesting": "regions within regions, exceptions and threads: the right type, restored",
        "custom_functions": "custom_fwd casts and switches autocast off, custom_bwd restores it",
        "recomputation": "a backward, and a checkpoint's second forward, use the first's types",
        "scaling": "a loss is scaled, gradients are unscaled exactly, clipped ones in between",
        "skipping": "a step with Inf or NaN in any gradient is skipped, and no other",
        "growth": "the scale backs off after a skipped step and grows after enough others",
        "scaler_state": "a scaler goes on from its state dict; a disabled one does nothing",
        "fused_steps": "fused optimizers unscale and skip by themselves, as the others do",
        "scaler_kernels": "lists of gradients are unscaled, and Inf found, in each type and place",
        "training": "whole training steps in mixed precision are right to the bit",
    },
    certain={"weight_cache": BITS},
)
