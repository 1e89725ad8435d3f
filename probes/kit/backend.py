"""The type of a device's back-end: a check proven on one type is not proven on another.

The type is torch's device type (`xpu`, `mps`, ...), `hip` for ROCm's `cuda`, and for the CPU its
architecture. CUDA splits where its behaviour does.
"""

import platform
from typing import Final

#: The first compute capability with the tensor cores and types that checks were written for.
_FIRST_PROVEN_CAPABILITY: Final = (7, 5)

#: PCI vendor -> back-end type of its GPUs in torch.
_TYPE_OF_VENDOR: Final = {"nvidia": "cuda", "amd": "hip", "intel": "xpu"}


def cpu_type() -> str:
    """The type of the host's CPU: `cpu-x86_64`, `cpu-aarch64`, ..."""
    return f"cpu-{platform.machine()}"


def node_type(vendors: tuple[str, ...]) -> str:
    """The type for checks of the whole node: that of its first GPU vendor, else the CPU's."""
    return next((_TYPE_OF_VENDOR[vendor] for vendor in vendors), cpu_type())


def cuda_type(
    capability: tuple[int, int] | None,
    *,
    instance: bool = False,
    integrated: bool = False,
    confidential: bool = False,
    mps: bool = False,
) -> str:
    """The type of an NVIDIA device.

    Args:
        capability: the compute capability; None where it is not known.
        instance: a MIG instance.
        integrated: the GPU shares the host's memory (Tegra).
        confidential: confidential computing is on.
        mps: reached through NVIDIA's multi-process service.
    """
    if capability is not None and capability < _FIRST_PROVEN_CAPABILITY:
        return "cuda-below-sm75"
    kinds = {
        "cuda-integrated": integrated,
        "cuda-confidential": confidential,
        "cuda-mps": mps,
        "cuda-mig": instance,
    }
    return next((name for name, holds in kinds.items() if holds), "cuda")
