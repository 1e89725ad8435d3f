"""Checks of one device: its kernel, its identity and its memory."""

from probes.contract import Finding, agree, expect, require, skipped
from probes.cuda_available.observation import Observation
from probes.cuda_available.shared import by_mps, memory_limiter
from probes.cuda_available.spec import Limits
from probes.cuda_available.start import broken, right
from probes.kit.symptoms import diagnose
from probes.node.cuda_driver import DriverDevice
from probes.node.nvml import NvmlGpu

#: What a driver keeps for itself, where NVML does not tell it. Seen: 0.2 to 0.9 GiB.
_RESERVED_BYTES = 1024**3


def available(observation: Observation) -> Finding:
    """`is_available()` says what is so: programs choose their device by it."""
    check = "cuda_available.is_available"
    framework = observation.framework
    if framework.available is None:
        return skipped(check, "this back-end has no is_available")
    works = not framework.error
    return expect(
        check,
        framework.available,
        works,
        message=f"is_available() is {framework.available}, and the back-end "
        + ("starts" if works else f"does not start: {framework.error.splitlines()[0][:200]}"),
        hint="confirm with `env | grep PYTORCH_NVML_BASED_CUDA_CHECK`; unset it, and trust "
        "torch.cuda.init() instead",
        action="fix_config",
    )


def generic(observation: Observation) -> Finding:
    """`torch.accelerator` gives the same answers, for code that names no vendor."""
    check = "cuda_available.accelerator_api"
    api = observation.generic
    if not api.exists:
        return skipped(check, "torch.accelerator came with torch 2.6, or the device did not start")
    if api.error:
        return broken("accelerator_api", "torch.accelerator raised", api.error)
    kind = observation.device.partition(":")[0]
    observed = f"{api.type}, available {api.available}, {api.device_count} devices"
    expected = f"{kind}, available True, {observation.framework.device_count} devices"
    return expect(
        check,
        observed,
        expected,
        message=f"torch.accelerator says {observed}",
        hint="confirm with `python -c 'import torch; a = torch.accelerator; "
        "print(a.current_accelerator(), a.device_count())'`; look for a second back-end among the "
        "image's packages",
        action="fix_image",
    )


def kernel(observation: Observation) -> Finding:
    """A first kernel gives exactly the right integers."""
    check = "cuda_available.kernel"
    if observation.framework.error:
        return skipped(check, "torch did not start")
    if observation.kernel.error:
        return broken(
            "kernel", f"a first kernel on {observation.device} raised", observation.kernel.error
        )
    hint = "repeat on another GPU; when it stays on this one, drain the node and reset the GPU"
    return agree(check, observation.kernel.comparisons, hint=hint, action="drain")


def first_kernel(observation: Observation, limits: Limits) -> Finding:
    """The first kernel, with the context it needs, comes without a long compilation."""
    check = "cuda_available.first_kernel"
    took = observation.kernel.first_s
    if took is None:
        return skipped(check, "no kernel ran")
    return require(
        check,
        took <= limits.first_kernel_s,
        took,
        f"<= {limits.first_kernel_s} s",
        message=f"the first kernel took {took:.1f} s (limit {limits.first_kernel_s:.0f} s)",
        hint="confirm with `nvidia-smi --query-gpu=persistence_mode,compute_cap --format=csv`; "
        "install a torch built for this architecture, and turn persistence mode on",
        otherwise="warn",
    )


def _bare(name: str) -> str:
    return name.removeprefix("NVIDIA ").strip()


def _differences(
    observation: Observation, device: DriverDevice | None, gpu: NvmlGpu | None
) -> list[str]:
    """Where torch, the driver and NVML describe this device differently."""
    if device is None:
        return [f"the driver does not list {observation.device}"]
    found = _from_torch(observation, device, gpu)
    if device.integrated:  # NVML calls it otherwise: `Orin (nvgpu)` for CUDA's `Orin`
        return found
    if gpu is not None:
        return found + _from_nvml(device, gpu)
    if device.uuid is not None and observation.nvml.gpus and not by_mps(observation):
        found.append(f"NVML does not know {device.uuid}")
    return found


def _from_torch(observation: Observation, device: DriverDevice, gpu: NvmlGpu | None) -> list[str]:
    """Where torch describes the driver's device differently."""
    torch_side, found = observation.framework, []
    for field in ("name", "capability"):
        mine, theirs = getattr(torch_side, field), getattr(device, field)
        if None not in (mine, theirs) and mine != theirs:
            found.append(f"{field} {mine} in torch, {theirs} in the driver")
    parent = gpu.uuid if gpu is not None and device.uuid in gpu.mig_uuids else None
    known = {uuid[4:] for uuid in (device.uuid, parent) if uuid}
    if torch_side.uuid and known and torch_side.uuid.removeprefix("MIG-") not in known:
        found.append(f"UUID {torch_side.uuid} in torch, {device.uuid} in the driver")
    return found


def _from_nvml(device: DriverDevice, gpu: NvmlGpu) -> list[str]:
    """Where NVML describes the driver's device differently."""
    found = []
    if device.name and gpu.name and not _bare(device.name).startswith(_bare(gpu.name)):
        found.append(f"name {device.name} in the driver, {gpu.name} in NVML")
    for field in ("capability", "pci_bus_id"):
        mine, theirs = getattr(device, field), getattr(gpu, field)
        if None not in (mine, theirs) and mine != theirs:
            found.append(f"{field} {mine} in the driver, {theirs} in NVML")
    return found


def identity(observation: Observation, device: DriverDevice | None, gpu: NvmlGpu | None) -> Finding:
    """What torch calls cuda:N is the driver's device N and one GPU of NVML's."""
    check = "cuda_available.identity"
    if observation.framework.device_error:
        return broken(
            "identity",
            f"{observation.device} cannot be described",
            observation.framework.device_error,
        )
    if observation.framework.cuda is None or observation.driver.init_code != 0:
        return skipped(check, "no CUDA driver to compare with")
    found = _differences(observation, device, gpu)
    return require(
        check,
        not found,
        "; ".join(found) or (device and device.uuid) or observation.framework.name,
        "torch, driver and NVML agree",
        message=f"{observation.device} is described differently: " + "; ".join(found),
        hint="compare `nvidia-smi -L` with `python -c 'import torch; "
        "print(torch.cuda.get_device_properties(0))'`; restart the process, then reset the GPU",
    )


def memory_size(
    observation: Observation, limits: Limits, device: DriverDevice | None, gpu: NvmlGpu | None
) -> Finding:
    """All of the GPU's memory is there: torch's, the driver's and NVML's totals agree."""
    check = "cuda_available.memory_size"
    mine = observation.framework.memory_total_bytes
    theirs = {"driver": device.memory_total_bytes if device else None}
    reserved = 0
    integrated = device is not None and device.integrated  # it has the host's memory
    if gpu is not None and not integrated and not (device and device.uuid in gpu.mig_uuids):
        theirs["NVML"] = gpu.memory_total_bytes
        known = gpu.memory_reserved_bytes
        reserved = _RESERVED_BYTES if known is None else known
    totals = {name: total for name, total in theirs.items() if total is not None}
    if mine is None or not totals:
        return skipped(check, "fewer than two totals are known")
    wrong = {
        name: total
        for name, total in totals.items()
        if not total * (1 - limits.memory_size_tolerance) - (reserved if name == "NVML" else 0)
        <= mine
        <= total * (1 + limits.memory_size_tolerance)
    }
    text = ", ".join(f"{name} {total}" for name, total in totals.items())
    limiter = memory_limiter(observation)
    if limiter and wrong and all(mine < total for total in wrong.values()):
        return skipped(check, f"{limiter} may make CUDA tell of less memory than there is")
    # Of a slice that a hypervisor made, NVML's words on what is reserved are not documented.
    doubtful = bool(limiter) or (gpu is not None and gpu.virtual and "driver" not in wrong)
    return require(
        check,
        not wrong,
        mine,
        f"within {limits.memory_size_tolerance:.0%} of {text} (reserved {reserved})",
        message=f"torch sees {mine} bytes of memory; {text} bytes",
        hint="confirm with `nvidia-smi -q -d MEMORY,ROW_REMAPPER`; drain the node and reset it",
        action="investigate" if doubtful else "drain",
        otherwise="warn" if doubtful else "fail",
    )


def memory_free(
    observation: Observation,
    limits: Limits,
    device: DriverDevice | None,
    gpu: NvmlGpu | None,
    *,
    instance: bool,
) -> Finding:
    """Some memory is free. Others' use is contention; use by nobody is a leftover, and told."""
    check = "cuda_available.memory_free"
    before = None if gpu is None or instance else gpu.memory_free_bytes
    free = before if before is not None else observation.framework.memory_free_bytes
    if free is None:
        return skipped(check, "free memory is not known")
    others = None if gpu is None or instance else gpu.process_count
    if free < limits.free_memory_bytes and others:
        return skipped(check, f"{others} other processes leave {free} bytes free: contention")
    if free < limits.free_memory_bytes and device is not None:
        # There the operating system counts cached files and freed pages as used.
        if device.integrated:
            return skipped(check, f"{free} bytes are free of the memory that is the host's too")
        if device.numa_memory:
            return skipped(check, f"{free} bytes are free, and the rest is the system's to give")
    return require(
        check,
        free >= limits.free_memory_bytes,
        free,
        f">= {limits.free_memory_bytes} bytes",
        message=f"{free} bytes are free (at least {limits.free_memory_bytes} wanted), and "
        + ("no process is seen to use the rest" if others == 0 else "who has the rest is unknown"),
        hint="confirm with `nvidia-smi --query-compute-apps=pid,used_memory --format=csv` and "
        "`fuser -v /dev/nvidia*` on the host; end leftovers, or reset the GPU",
        action="reset_gpu",
        otherwise="warn",
    )


def compute_mode(observation: Observation, limits: Limits, gpu: NvmlGpu | None) -> Finding:
    """Computing is allowed, and by more than one process: under MPS its server is the one."""
    check = "cuda_available.compute_mode"
    if gpu is None or gpu.compute_mode is None:
        return skipped(check, "the compute mode is not known")
    return require(
        check,
        gpu.compute_mode in limits.compute_modes
        or (gpu.compute_mode == "exclusive_process" and by_mps(observation)),
        gpu.compute_mode,
        " or ".join(limits.compute_modes),
        message=f"the compute mode is {gpu.compute_mode}",
        hint="confirm with `nvidia-smi --query-gpu=compute_mode --format=csv`; "
        "`nvidia-smi -c DEFAULT`, or list the mode in this probe's limits",
        action="fix_config",
        otherwise="fail" if gpu.compute_mode == "prohibited" else "warn",
    )


def busy(observation: Observation, limits: Limits, gpu: NvmlGpu | None) -> tuple[str, bool]:
    """The text of an error that says "busy" or "full", and whether NVML leaves that possible.

    A GPU that nobody used a moment before, and that refuses for being busy or full, is broken; one
    that is set to prohibited refuses by order, and nobody will go away.
    """
    texts = (observation.framework.error, observation.kernel.error, observation.driver.init_name)
    found = [(text, symptom) for text in texts if (symptom := diagnose(text)) is not None]
    found = [(text, symptom) for text, symptom in found if symptom.reason == "gpu_busy"]
    if not found or right(observation):
        return "", False
    text, symptom = found[0]
    asked = (
        [gpu] if gpu is not None else [each for each in observation.nvml.gpus if each.accessible]
    )
    idle = bool(asked) and all(each.process_count == 0 for each in asked)
    if any(each.compute_mode == "prohibited" for each in asked):
        return "", False
    if symptom.name == "device_busy":
        free = all(each.compute_mode == "default" for each in asked)
    else:
        free = all((each.memory_free_bytes or 0) >= limits.free_memory_bytes for each in asked)
    return text, not (idle and free)
