"""GPUs on the PCI bus that cannot be used: lost, or not given to this process."""

from collections.abc import Collection
from typing import Final, Literal, NamedTuple

from probes.contract import Finding, require, skipped
from probes.cuda_available.observation import Observation
from probes.cuda_available.spec import Limits
from probes.cuda_available.start import hiding_variable
from probes.node.pci_gpus import PciGpu

#: Variables that a job scheduler sets: the job may have fewer GPUs than the node.
_JOB_VARIABLES: Final = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")

_HINT: Final = (
    "compare `nvidia-smi -L` with `lspci -d 10de:` (rev ff: fallen off the bus), and look at "
    "`dmesg | grep -iE 'xid|nvrm'`; drain the node and power-cycle it"
)


class _MissingGpu(NamedTuple):
    """A GPU on PCI that neither NVML nor CUDA lists, and why."""

    gpu: PciGpu
    meaning: Literal["lost", "doubtful", "explained"]
    why: str

    def __str__(self) -> str:
        return f"{self.gpu.address} ({self.why})"


def all_gpus(observation: Observation, limits: Limits, usable: int) -> Finding:
    """Every GPU that this process was given can be used; lost ones are named by PCI address.

    Args:
        observation: of this device.
        limits: a promised number of GPUs counts even where a container or job has fewer.
        usable: how many GPUs torch can use, in one process or in several.
    """
    check = "cuda_available.all_gpus"
    candidates = [gpu for gpu in observation.pci if not gpu.given_away]
    known = _listed_addresses(observation)
    if limits.asked:
        return skipped(check, "the devices were asked for by name, and not the whole node")
    if observation.framework.hip is not None:
        return _all_amd_gpus(observation, limits, usable)
    if not candidates:
        return skipped(check, "PCI shows no NVIDIA GPU of ours")
    if not known:
        return skipped(check, "the driver tells no GPU at all: other checks say why")
    missing = [
        _missing_gpu(observation, gpu, candidates, known)
        for gpu in candidates
        if gpu.address not in known
    ]
    nameless = sum(
        not gpu.accessible or (gpu.pci_bus_id is None and not gpu.error)
        for gpu in observation.nvml.gpus
    )
    if missing and len(missing) <= nameless:
        return skipped(check, f"NVML does not tell the addresses of {nameless} GPUs")
    promised = isinstance(limits.gpus, int) and usable < limits.gpus
    lost = [each for each in missing if each.meaning == "lost" or promised]
    doubtful = [each for each in missing if each.meaning == "doubtful"]
    blamed = lost or doubtful
    promise = f", and {limits.gpus} were promised" if promised else ""
    given_away = [f"{gpu.address} (has {gpu.driver})" for gpu in observation.pci if gpu.given_away]
    explained = [str(each) for each in missing] + given_away
    return require(
        check,
        not blamed,
        "; ".join(str(each) for each in blamed)
        or f"{len(candidates) - len(missing)} of {len(observation.pci)} GPUs"
        + (f"; not ours to use: {', '.join(explained)}" if explained else ""),
        "every GPU that was given to this process",
        message=f"PCI shows {len(candidates)} NVIDIA GPUs, and {len(blamed)} of them cannot be used"
        f"{promise}: " + ", ".join(str(each) for each in blamed),
        hint=_HINT,
        action="drain" if lost else "investigate",
        otherwise="fail" if lost else "warn",
    )


def _all_amd_gpus(observation: Observation, limits: Limits, usable: int) -> Finding:
    """Torch can use every AMD GPU that the kernel's compute driver (KFD) lists.

    KFD leaves out GPUs that a container's device group closes, so it lists those given to us.
    """
    check = "cuda_available.all_gpus"
    listed = len(observation.hardware.architectures)
    closed = [node.path for node in observation.nodes if node.problem]
    if listed == 0:
        return skipped(check, "KFD lists no AMD GPU that torch could use")
    if hiding_variable(observation) is not None or "GPU_DEVICE_ORDINAL" in observation.variables:
        return skipped(check, "a variable hides GPUs: how many are left is told elsewhere")
    if closed and usable < listed:
        return skipped(check, f"{', '.join(closed[:4])} is closed to us, and so its GPU")
    text = f"KFD lists {listed} AMD GPUs, torch {usable}"
    amd = [line for line in observation.hardware.evidence if line.startswith("KFD node")]
    promised = isinstance(limits.gpus, int) and usable < limits.gpus
    return require(
        check,
        usable >= listed and not promised,
        text,
        f"{listed} GPUs",
        message=f"{text}: {'; '.join(amd[:8])}",
        hint="compare `rocminfo | grep -c 'Device Type: *GPU'` with `lspci -d 1002:`, and look at "
        "`dmesg | grep -iE 'amdgpu|kfd'`; drain the node and reset the GPU",
        action="drain",
    )


def _listed_addresses(observation: Observation) -> set[str]:
    """PCI addresses of the GPUs that NVML or CUDA lists; empty where neither lists all."""
    addresses = {device.pci_bus_id for device in observation.driver.devices}
    if not observation.nvml.error:
        addresses |= {gpu.pci_bus_id for gpu in observation.nvml.gpus if gpu.accessible}
    else:
        # CUDA leaves out hidden GPUs, and all MIG instances but one.
        mig_devices = any(
            (device.uuid or "").startswith("MIG-") for device in observation.driver.devices
        )
        if (
            mig_devices
            or hiding_variable(observation) is not None
            or any(each.mps for each in observation.driver.devices)
        ):
            return set()
    return {address for address in addresses if address is not None}


def _missing_gpu(
    observation: Observation, gpu: PciGpu, candidates: Collection[PciGpu], known: Collection[str]
) -> _MissingGpu:
    """Why a GPU is not listed: from its device node, its driver, the container or the job."""
    if gpu.excluded:
        return _MissingGpu(gpu, "explained", "the driver was told to leave it alone")
    off_bus = "" if gpu.answers else ", and it no longer answers on the bus"
    node = next(
        (node for node in observation.nodes if node.path.endswith(f"/nvidia{gpu.minor}")), None
    )
    if node is not None and node.problem.startswith(("EPERM", "EACCES")):
        return _MissingGpu(gpu, "explained", f"{node.path} is closed to us")
    if node is not None:
        opens = f"does not open: {node.problem}" if node.problem else "is here"
        return _MissingGpu(gpu, "lost", f"its node {node.path} {opens}{off_bus}")
    if not_given := _why_not_given(observation):
        return _MissingGpu(gpu, "explained", not_given)
    why = "NVIDIA_VISIBLE_DEVICES=all" if observation.container.kind else "no container, no job"
    if gpu.driver == "nvidia" or gpu.minor is not None or not gpu.answers:
        return _MissingGpu(gpu, "lost", f"{why}{off_bus}")
    # No driver, or another one, took it. NVIDIA's supports it for sure if one of this model works.
    same_model_works = any(each.model == gpu.model for each in candidates if each.address in known)
    taken = f"taken by {gpu.driver}" if gpu.driver else "no driver took it"
    return _MissingGpu(gpu, "lost" if same_model_works else "doubtful", taken)


def _why_not_given(observation: Observation) -> str:
    """Which container or job may not have been given a GPU; empty where all GPUs were given.

    NVIDIA_VISIBLE_DEVICES=all means all GPUs only where NVIDIA's toolkit read it. Images set it
    too, so a pod that got two of eight GPUs from another device plugin still has it.
    """
    if observation.container.kind:
        wanted = observation.variables.get("NVIDIA_VISIBLE_DEVICES")
        if (
            wanted == "all"
            and observation.container.toolkit
            and not observation.container.by_mounts
        ):
            return ""
        return f"not given to {observation.container.kind}"
    job = next((name for name in _JOB_VARIABLES if name in observation.variables), None)
    if (
        "SLURM_SCRIPT_CONTEXT" in observation.variables
    ):  # a prolog or an epilog, outside the job's limits
        job = None
    return f"not given to this job ({job})" if job else ""
