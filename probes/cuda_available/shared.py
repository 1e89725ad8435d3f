"""What may stand between a process and its whole GPU: MPS, or a library that limits memory."""

import re
from typing import Final

from probes.cuda_available.observation import Observation

#: Variables that limit the memory which CUDA tells of: NVIDIA's MPS, and HAMi and its kin.
_MEMORY: Final = (
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_MEMORY_LIMIT_0",
)

#: Preloaded libraries that stand before CUDA's or NVML's: libvgpu.so, libcuda-control.so.
_PRELOADED: Final = re.compile(r"v?gpu|cuda|nvml|nvidia", re.IGNORECASE)


def by_mps(observation: Observation) -> bool:
    """Whether CUDA's multi-process service stands between, by the driver's word or by its pipes.

    Its server numbers, hides and may divide the GPUs, and holds them in exclusive mode by design.
    """
    told = [device.mps for device in observation.driver.devices if device.mps is not None]
    return any(told) or (not told and observation.mps_pipes)


def memory_limiter(observation: Observation) -> str:
    """What may make CUDA tell of less memory than the GPU has; empty where nothing does."""
    if by_mps(observation):
        return "MPS"
    variable = next((name for name in _MEMORY if name in observation.variables), None)
    library = next((path for path in observation.preloaded if _PRELOADED.search(path)), None)
    return variable or library or ""
