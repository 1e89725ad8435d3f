"""GPUs that the PCI bus shows and that nothing can use: lost, or not meant for this process."""

from collections.abc import Collection
from typing import Final, Literal, NamedTuple

from probes.contract import Finding, require, skipped
from probes.cuda_available.observation import Observation
from probes.cuda_available.spec import Limits
from probes.cuda_available.start import hides
from probes.node.pci_gpus import PciGpu

#: Variables of a job scheduler: the job may have fewer GPUs than the node.
JOBS: Final = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")

_HINT: Final = (
    "compare `nvidia-smi -L` with `lspci -d 10de:` (rev ff: fallen off the bus), and look at "
    "`dmesg | grep -iE 'xid|nvrm'`; drain the node and power-cycle it"
)


class _Missing(NamedTuple):
    """A GPU on PCI that neither NVML nor CUDA lists, and what that means."""

    gpu: PciGpu
    meaning: Literal["lost", "doubtful", "explained"]
    why: str

    def __str__(self) -> str:
        return f"{self.gpu.address} ({self.why})"


def all_gpus(observation: Observation, limits: Limits, usable: int) -> Finding:
    """Every GPU of the node that this process was given can be used; lost ones by address.

    Args:
        observation: what was seen.
        limits: a number of GPUs that is promised counts, whatever was given.
        usable: how many GPUs torch can use, in one process or in several.
    """
    check = "cuda_available.all_gpus"
    ours = [gpu for gpu in observation.pci if not gpu.given_away]
    known = _known(observation)
    if limits.asked:
        return skipped(check, "the devices were asked for by name, and not the whole node")
    if observation.framework.hip is not None:
        return _all_of_amd(observation, limits, usable)
    if not ours:
        return skipped(check, "PCI shows no NVIDIA GPU of ours")
    if not known:
        return skipped(check, "the driver tells no GPU at all: other checks say why")
    missing = [_missing(observation, gpu, ours, known) for gpu in ours if gpu.address not in known]
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
    least = f", and {limits.gpus} were promised" if promised else ""
    away = [f"{gpu.address} (has {gpu.driver})" for gpu in observation.pci if gpu.given_away]
    fine = [str(each) for each in missing] + away
    return require(
        check,
        not blamed,
        "; ".join(str(each) for each in blamed)
        or f"{len(ours) - len(missing)} of {len(observation.pci)} GPUs"
        + (f"; not ours to use: {', '.join(fine)}" if fine else ""),
        "every GPU that was given to this process",
        message=f"PCI shows {len(ours)} NVIDIA GPUs, and {len(blamed)} of them cannot be used"
        f"{least}: " + ", ".join(str(each) for each in blamed),
        hint=_HINT,
        action="drain" if lost else "investigate",
        otherwise="fail" if lost else "warn",
    )


def _all_of_amd(observation: Observation, limits: Limits, usable: int) -> Finding:
    """Every AMD GPU that the kernel's compute driver (KFD) lists is one that torch can use.

    KFD leaves out what a container's device group closes, so its list is what was given to us.
    """
    check = "cuda_available.all_gpus"
    listed = len(observation.hardware.architectures)
    closed = [node.path for node in observation.nodes if node.problem]
    if listed == 0:
        return skipped(check, "KFD lists no AMD GPU that torch could use")
    if hides(observation) is not None or "GPU_DEVICE_ORDINAL" in observation.variables:
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


def _known(observation: Observation) -> set[str]:
    """Addresses of the GPUs that NVML or CUDA lists; empty where neither could tell of all."""
    addresses = {device.pci_bus_id for device in observation.driver.devices}
    if not observation.nvml.error:
        addresses |= {gpu.pci_bus_id for gpu in observation.nvml.gpus if gpu.accessible}
    else:
        # CUDA alone leaves out what is hidden, and all but one of MIG's devices.
        sliced = any(
            (device.uuid or "").startswith("MIG-") for device in observation.driver.devices
        )
        if (
            sliced
            or hides(observation) is not None
            or any(each.mps for each in observation.driver.devices)
        ):
            return set()
    return {address for address in addresses if address is not None}


def _missing(
    observation: Observation, gpu: PciGpu, ours: Collection[PciGpu], known: Collection[str]
) -> _Missing:
    """Why a GPU is not there: by its device node, by its driver, by the limits around us."""
    if gpu.excluded:
        return _Missing(gpu, "explained", "the driver was told to leave it alone")
    gone = "" if gpu.answers else ", and it no longer answers on the bus"
    node = next(
        (node for node in observation.nodes if node.path.endswith(f"/nvidia{gpu.minor}")), None
    )
    if node is not None and node.problem.startswith(("EPERM", "EACCES")):
        return _Missing(gpu, "explained", f"{node.path} is closed to us")
    if node is not None:
        opens = f"does not open: {node.problem}" if node.problem else "is here"
        return _Missing(gpu, "lost", f"its node {node.path} {opens}{gone}")
    if limits := _limits_around(observation):
        return _Missing(gpu, "explained", limits)
    why = "NVIDIA_VISIBLE_DEVICES=all" if observation.container.kind else "no container, no job"
    if gpu.driver == "nvidia" or gpu.minor is not None or not gpu.answers:
        return _Missing(gpu, "lost", f"{why}{gone}")
    # No driver, or another one, took it: nobody says that NVIDIA's could. A like one shows it.
    alike = any(each.model == gpu.model for each in ours if each.address in known)
    taken = f"taken by {gpu.driver}" if gpu.driver else "no driver took it"
    return _Missing(gpu, "lost" if alike else "doubtful", taken)


def _limits_around(observation: Observation) -> str:
    """What keeps a GPU without a device node from this process; empty on a host of our own.

    NVIDIA_VISIBLE_DEVICES=all is a promise only where NVIDIA's toolkit read it: the image sets it
    too, and a pod that another device plugin gave two of eight GPUs still holds it.
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
    job = next((name for name in JOBS if name in observation.variables), None)
    if (
        "SLURM_SCRIPT_CONTEXT" in observation.variables
    ):  # a prolog or an epilog, outside the job's limits
        job = None
    return f"not given to this job ({job})" if job else ""
