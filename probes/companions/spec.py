"""The probe's cost, schedule and checks. Does not import torch."""

from typing import Final

from probes.contract import ProbeSpec

SPEC: Final = ProbeSpec(
    name="companions",
    profile="quick",
    needs="host",
    timeout_s=60,
    interval_s=300,
    memory_bytes=0,
    checks={
        "requirements": "torchvision, torchaudio and triton are of the release that fits torch",
        "builds": "torchvision and torchaudio are built for what torch is built for (cu130, cpu)",
        "imports": "torchvision and torchaudio can be imported",
        "nms": "torchvision's compiled operator keeps the right boxes",
    },
    certain={"nms": ()},
)
