"""Check of MIG instances, and how many GPUs can be used by one process or by several."""

from probes.contract import Finding, require, skipped
from probes.cuda_available.observation import Observation
from probes.cuda_available.spec import Limits
from probes.node.nvml import NvmlGpu


def accessible_gpus(observation: Observation) -> list[NvmlGpu]:
    """The GPUs whose data NVML lets this process read."""
    return [gpu for gpu in observation.nvml.gpus if gpu.accessible]


def has_mig_instances(observation: Observation) -> bool:
    """Whether some GPU has MIG instances, so that CUDA shows each process only one device."""
    return any(gpu.mig_uuids for gpu in accessible_gpus(observation))


def usable_gpus(observation: Observation) -> int:
    """How many GPUs torch can use, in several processes where MIG requires it.

    A GPU with instances counts once. A GPU with MIG on and no instance does not count, since torch
    cannot use it.
    """
    count = observation.framework.device_count
    if count == 0 or not has_mig_instances(observation):
        return count
    usable = [gpu for gpu in accessible_gpus(observation) if gpu.mig_uuids or not gpu.mig_enabled]
    return sum(not gpu.error for gpu in usable)


def mig_instances(observation: Observation, limits: Limits) -> Finding:
    """There are as many MIG instances as promised, and some on each GPU with MIG on."""
    check = "cuda_available.mig_instances"
    promised = limits.mig_instances
    empty = [gpu for gpu in accessible_gpus(observation) if gpu.mig_enabled and not gpu.mig_uuids]
    count = sum(len(gpu.mig_uuids) for gpu in accessible_gpus(observation))
    if promised is None and not any(gpu.mig_enabled for gpu in accessible_gpus(observation)):
        return skipped(check, "no GPU here has MIG on")
    fewer = promised is not None and count < promised
    none = ", ".join(f"GPU {gpu.index}" for gpu in empty)
    text = f"{count} instances" + (f"; {none}: MIG is on, without an instance" if empty else "")
    if (
        observation.visible_before is None and count > 1
    ):  # the user's choice: only the one that CUDA shows is judged
        text += f"; one judged, and {count - 1} not: CUDA shows this process one of them"
    return require(
        check,
        not fewer and not empty,
        text,
        "some on each GPU with MIG on" if promised is None else f">= {promised} instances",
        message=f"NVML lists {count} MIG instances where {promised} were promised"
        if fewer
        else f"{none}: MIG is on and no instance is there, so nothing on it was judged",
        hint="confirm with `nvidia-smi -L` and `nvidia-smi mig -lgi`; create instances with "
        "`nvidia-smi mig -cgi PROFILE -C`, or turn MIG off",
        action="fix_config",
        otherwise="fail" if fewer else "warn",
    )
