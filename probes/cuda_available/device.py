"""Checks of one device: its kernel, its identity and its memory."""

from probes.contract import Finding, agree, expect, require, skipped
from probes.cuda_available.observation import Observation
from probes.cuda_available.shared import memory_limiter, uses_mps
from probes.cuda_available.spec import Limits
from probes.cuda_available.start import error_finding, kernel_is_right
from probes.kit.symptoms import diagnose
from probes.node.cuda_driver import DriverDevice
from probes.node.nvml import NvmlGpu

#: Memory that a driver reserves, where NVML does not report it. Measured: 0.2 to 0.9 GiB.
_RESERVED_BYTES = 1024**3


def is_available(observation: Observation) -> Finding:
    """`is_available()` says whether the back-end starts: programs choose their device by it."""
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


def accelerator_api(observation: Observation) -> Finding:
    """`torch.accelerator` gives the same answers, for code that names no vendor."""
    check = "cuda_available.accelerator_api"
    api = observation.generic
    if not api.exists:
        return skipped(check, "torch.accelerator came with torch 2.6, or the device did not start")
    if api.error:
        return error_finding("accelerator_api", "torch.accelerator raised", api.error)
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
        return error_finding(
            "kernel", f"a first kernel on {observation.device} raised", observation.kernel.error
        )
    hint = "repeat on another GPU; when it stays on this one, drain the node and reset the GPU"
    return agree(check, observation.kernel.comparisons, hint=hint, action="drain")


def first_kernel(observation: Observation, limits: Limits) -> Finding:
    """The first kernel, with the start of its context, needs no long compilation."""
    check = "cuda_available.first_kernel"
    seconds = observation.kernel.first_s
    if seconds is None:
        return skipped(check, "no kernel ran")
    return require(
        check,
        seconds <= limits.first_kernel_s,
        seconds,
        f"<= {limits.first_kernel_s} s",
        message=f"the first kernel took {seconds:.1f} s (limit {limits.first_kernel_s:.0f} s)",
        hint="confirm with `nvidia-smi --query-gpu=persistence_mode,compute_cap --format=csv`; "
        "install a torch built for this architecture, and turn persistence mode on",
        otherwise="warn",
    )


def _without_vendor(name: str) -> str:
    return name.removeprefix("NVIDIA ").strip()


def _differences(
    observation: Observation, device: DriverDevice | None, gpu: NvmlGpu | None
) -> list[str]:
    """Where torch, the driver and NVML describe this device differently; empty where they agree."""
    if device is None:
        return [f"the driver does not list {observation.device}"]
    differences = _torch_differences(observation, device, gpu)
    if device.integrated:  # NVML has another name: `Orin (nvgpu)` for CUDA's `Orin`
        return differences
    if gpu is not None:
        return differences + _nvml_differences(device, gpu)
    if device.uuid is not None and observation.nvml.gpus and not uses_mps(observation):
        differences.append(f"NVML does not know {device.uuid}")
    return differences


def _torch_differences(
    observation: Observation, device: DriverDevice, gpu: NvmlGpu | None
) -> list[str]:
    """Where torch and the driver describe the device differently."""
    framework, differences = observation.framework, []
    for field in ("name", "capability"):
        torch_value, driver_value = getattr(framework, field), getattr(device, field)
        if None not in (torch_value, driver_value) and torch_value != driver_value:
            differences.append(f"{field} {torch_value} in torch, {driver_value} in the driver")
    parent = gpu.uuid if gpu is not None and device.uuid in gpu.mig_uuids else None
    known = {uuid[4:] for uuid in (device.uuid, parent) if uuid}
    if framework.uuid and known and framework.uuid.removeprefix("MIG-") not in known:
        differences.append(f"UUID {framework.uuid} in torch, {device.uuid} in the driver")
    return differences


def _nvml_differences(device: DriverDevice, gpu: NvmlGpu) -> list[str]:
    """Where NVML and the driver describe the device differently."""
    differences = []
    if (
        device.name
        and gpu.name
        and not _without_vendor(device.name).startswith(_without_vendor(gpu.name))
    ):
        differences.append(f"name {device.name} in the driver, {gpu.name} in NVML")
    for field in ("capability", "pci_bus_id"):
        driver_value, nvml_value = getattr(device, field), getattr(gpu, field)
        if None not in (driver_value, nvml_value) and driver_value != nvml_value:
            differences.append(f"{field} {driver_value} in the driver, {nvml_value} in NVML")
    return differences


def identity(observation: Observation, device: DriverDevice | None, gpu: NvmlGpu | None) -> Finding:
    """The cuda:N of torch is device N of the driver, and one GPU of NVML."""
    check = "cuda_available.identity"
    if observation.framework.device_error:
        return error_finding(
            "identity",
            f"{observation.device} cannot be described",
            observation.framework.device_error,
        )
    if observation.framework.cuda is None or observation.driver.init_code != 0:
        return skipped(check, "no CUDA driver to compare with")
    differences = _differences(observation, device, gpu)
    return require(
        check,
        not differences,
        "; ".join(differences) or (device and device.uuid) or observation.framework.name,
        "torch, driver and NVML agree",
        message=f"{observation.device} is described differently: " + "; ".join(differences),
        hint="compare `nvidia-smi -L` with `python -c 'import torch; "
        "print(torch.cuda.get_device_properties(0))'`; restart the process, then reset the GPU",
    )


def memory_size(
    observation: Observation, limits: Limits, device: DriverDevice | None, gpu: NvmlGpu | None
) -> Finding:
    """All of the GPU's memory is there: the totals of torch, the driver and NVML agree."""
    check = "cuda_available.memory_size"
    torch_total = observation.framework.memory_total_bytes
    all_totals = {"driver": device.memory_total_bytes if device else None}
    reserved = 0
    integrated = device is not None and device.integrated  # it uses the host's memory
    if gpu is not None and not integrated and not (device and device.uuid in gpu.mig_uuids):
        all_totals["NVML"] = gpu.memory_total_bytes
        known = gpu.memory_reserved_bytes
        reserved = _RESERVED_BYTES if known is None else known
    totals = {name: total for name, total in all_totals.items() if total is not None}
    if torch_total is None or not totals:
        return skipped(check, "fewer than two totals are known")
    wrong = {
        name: total
        for name, total in totals.items()
        if not total * (1 - limits.memory_size_tolerance) - (reserved if name == "NVML" else 0)
        <= torch_total
        <= total * (1 + limits.memory_size_tolerance)
    }
    text = ", ".join(f"{name} {total}" for name, total in totals.items())
    limiter = memory_limiter(observation)
    if limiter and wrong and all(torch_total < total for total in wrong.values()):
        return skipped(check, f"{limiter} may make CUDA tell of less memory than there is")
    # For a slice that a hypervisor made, what NVML reports as reserved is not documented.
    doubtful = bool(limiter) or (gpu is not None and gpu.virtual and "driver" not in wrong)
    return require(
        check,
        not wrong,
        torch_total,
        f"within {limits.memory_size_tolerance:.0%} of {text} (reserved {reserved})",
        message=f"torch sees {torch_total} bytes of memory; {text} bytes",
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
    """Some memory is free: use by others is contention and skipped, use by no process a warning."""
    check = "cuda_available.memory_free"
    nvml_free = None if gpu is None or instance else gpu.memory_free_bytes
    free = nvml_free if nvml_free is not None else observation.framework.memory_free_bytes
    if free is None:
        return skipped(check, "free memory is not known")
    others = None if gpu is None or instance else gpu.process_count
    if free < limits.free_memory_bytes and others:
        return skipped(check, f"{others} other processes leave {free} bytes free: contention")
    if free < limits.free_memory_bytes and device is not None:
        # Here the operating system counts cached files and freed pages as used.
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
    """More than one process may compute; under MPS exclusive mode is right, for its server."""
    check = "cuda_available.compute_mode"
    if gpu is None or gpu.compute_mode is None:
        return skipped(check, "the compute mode is not known")
    return require(
        check,
        gpu.compute_mode in limits.compute_modes
        or (gpu.compute_mode == "exclusive_process" and uses_mps(observation)),
        gpu.compute_mode,
        " or ".join(limits.compute_modes),
        message=f"the compute mode is {gpu.compute_mode}",
        hint="confirm with `nvidia-smi --query-gpu=compute_mode --format=csv`; "
        "`nvidia-smi -c DEFAULT`, or list the mode in this probe's limits",
        action="fix_config",
        otherwise="fail" if gpu.compute_mode == "prohibited" else "warn",
    )


def busy_error(observation: Observation, limits: Limits, gpu: NvmlGpu | None) -> tuple[str, bool]:
    """The text of an error that says "busy" or "full", and whether NVML's data allow that cause.

    A GPU that no process used a moment before, and that says it is busy or full, is broken. In mode
    prohibited it always refuses, so waiting does not help.
    """
    texts = (observation.framework.error, observation.kernel.error, observation.driver.init_name)
    busy_symptoms = [(text, symptom) for text in texts if (symptom := diagnose(text)) is not None]
    busy_symptoms = [
        (text, symptom) for text, symptom in busy_symptoms if symptom.reason == "gpu_busy"
    ]
    if not busy_symptoms or kernel_is_right(observation):
        return "", False
    text, symptom = busy_symptoms[0]
    gpus = [gpu] if gpu is not None else [each for each in observation.nvml.gpus if each.accessible]
    idle = bool(gpus) and all(each.process_count == 0 for each in gpus)
    if any(each.compute_mode == "prohibited" for each in gpus):
        return "", False
    if symptom.name == "device_busy":
        usable = all(each.compute_mode == "default" for each in gpus)
    else:
        usable = all((each.memory_free_bytes or 0) >= limits.free_memory_bytes for each in gpus)
    return text, not (idle and usable)
