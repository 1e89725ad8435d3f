"""What may limit a process to a part of its GPU: MPS, or a library that limits memory."""

import re
from typing import Final

from probes.cuda_available.observation import Observation

#: Variables that limit the memory that CUDA reports: of NVIDIA's MPS, and of HAMi and the like.
_MEMORY_LIMITS: Final = (
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_MEMORY_LIMIT_0",
)

#: Preloaded libraries that replace calls of CUDA or NVML: libvgpu.so, libcuda-control.so.
_PRELOADED: Final = re.compile(r"v?gpu|cuda|nvml|nvidia", re.IGNORECASE)


def uses_mps(observation: Observation) -> bool:
    """Whether CUDA's multi-process service (MPS) is in use, by the driver's data or by its pipes.

    Its server numbers, hides and may divide the GPUs, and needs exclusive mode.
    """
    known = [device.mps for device in observation.driver.devices if device.mps is not None]
    return any(known) or (not known and observation.mps_pipes)


def memory_limiter(observation: Observation) -> str:
    """What may make CUDA report less memory than the GPU has; empty when there is nothing."""
    if uses_mps(observation):
        return "MPS"
    variable = next((name for name in _MEMORY_LIMITS if name in observation.variables), None)
    library = next((path for path in observation.preloaded if _PRELOADED.search(path)), None)
    return variable or library or ""
