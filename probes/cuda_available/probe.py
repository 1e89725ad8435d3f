"""The observation of a device, and the findings about it."""

from collections.abc import Iterator
from typing import Final

from probes.contract import GPU_BUSY, Finding, Measurement, skipped
from probes.cuda_available import device, instances, lost, start
from probes.cuda_available.observation import Observation, observe
from probes.cuda_available.spec import Limits
from probes.node.cuda_driver import DriverDevice, match
from probes.node.nvml import NvmlGpu

__all__ = ["Limits", "Observation", "judge", "measure", "observe"]

#: Checks that fail as a consequence when the GPU is busy or may not be opened.
_CONSEQUENCES = {
    *("driver_starts", "torch_starts", "kernel", "is_available", "enough_gpus", "counts_agree"),
    *("visible_devices", "accelerator_api", "identity", "memory_size", "nvml_answers"),
}

#: For a GPU that says "busy" while NVML saw no process on it.
_IDLE_NOTE = "- yet NVML saw no other process, and no mode that excludes one, a moment before"
_IDLE_BUSY: Final[dict[str, str]] = {
    "hint": "confirm with `nvidia-smi --query-gpu=compute_mode,memory.used --format=csv` and "
    "`nvidia-smi --query-compute-apps=pid --format=csv`; drain the node and reset the GPU",
    "action": "reset_gpu",
}


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield the findings; where another process or a missing permission is the cause, a skip."""
    findings = list(_findings(observation, limits))
    if why := _nothing_to_judge(observation, limits):
        yield from (skipped(finding.id, why) for finding in findings)
        return
    no_gpu_asked = start.no_gpu_asked(observation)
    gpu = _driver_and_nvml_views(observation)[1]
    busy_text, busy_possible = device.busy_error(observation, limits, gpu)
    access_lost = start.access_is_lost(observation, gpu)
    for finding in findings:
        failed = finding.status == "fail" and finding.id.partition(".")[2] in _CONSEQUENCES
        if busy_possible and (failed or finding.status in {"pass", "warn"}):
            yield skipped(finding.id, f"{GPU_BUSY}: {start.first_line(busy_text)}")
        elif no_gpu_asked and failed:
            yield skipped(finding.id, "the Slurm job asked for no GPU")
        elif access_lost and failed:
            yield skipped(finding.id, "the device nodes cannot be opened: nothing can be told")
        elif busy_text and failed and start.says_busy(finding.observed):
            yield finding.model_copy(
                update=_IDLE_BUSY | {"message": f"{finding.message} {_IDLE_NOTE}"}
            )
        else:
            yield finding


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield the seconds of each step of the start, and the device's memory in bytes."""
    seconds = {
        "driver_start_seconds": observation.driver_s if observation.driver.loaded else None,
        "torch_start_seconds": observation.framework_s
        if observation.framework.accelerator
        else None,
        "first_kernel_seconds": observation.kernel.first_s,
    }
    for name, value in seconds.items():
        if value is not None:
            yield Measurement(name=name, value=value, unit="seconds")
    if observation.framework.memory_total_bytes is not None:
        total = float(observation.framework.memory_total_bytes)
        yield Measurement(name="device_memory_bytes", value=total, unit="bytes")


def _nothing_to_judge(observation: Observation, limits: Limits) -> str:
    """Why no check applies; empty when the checks apply."""
    if observation.device != "cpu":
        return ""
    if observation.framework.device_count:
        return f"each of the {observation.framework.device_count} accelerators is judged for itself"
    promised = bool(limits.asked) or (isinstance(limits.gpus, int) and limits.gpus > 0)
    return "" if promised else _why_no_gpu_needed(observation, limits)


def _why_no_gpu_needed(observation: Observation, limits: Limits) -> str:
    """Why no GPU is needed where none was promised; empty when the hardware is here."""
    if limits.gpus == 0:
        return "no GPU is expected here"
    if start.no_gpu_asked(observation):
        return f"the Slurm job asked for no GPU ({start.NO_GPU_ASKED})"
    return "" if observation.hardware.vendors else "no GPU is present"


def _driver_and_nvml_views(observation: Observation) -> tuple[DriverDevice | None, NvmlGpu | None]:
    """The driver's and NVML's data of this device; None for the CPU and for other vendors."""
    kind, _, index = observation.device.partition(":")
    if kind != "cuda" or observation.framework.cuda is None:
        return None, None
    count = observation.framework.device_count
    return match(
        int(index or 0), count, observation.driver, observation.nvml, observation.variables
    )


def _findings(observation: Observation, limits: Limits) -> Iterator[Finding]:
    """Yield the finding of every check, before skips for other causes."""
    driver_device, gpu = _driver_and_nvml_views(observation)
    instance = driver_device is not None and gpu is not None and driver_device.uuid in gpu.mig_uuids
    yield start.device_nodes(observation, gpu)
    yield start.driver_starts(observation, limits)
    yield start.nvml_answers(observation, limits, gpu)
    yield start.torch_starts(observation)
    yield device.is_available(observation)
    yield start.enough_gpus(observation, limits)
    yield lost.all_gpus(observation, limits, instances.usable_gpus(observation))
    yield instances.mig_instances(observation, limits)
    yield start.visible_devices(observation)
    yield start.counts_agree(observation)
    if observation.device == "cpu":
        names = ("accelerator_api", "kernel", "first_kernel", "identity", "memory_size")
        for name in (*names, "memory_free", "compute_mode"):
            yield skipped(f"cuda_available.{name}", "no accelerator to ask")
        return
    yield device.accelerator_api(observation)
    yield device.kernel(observation)
    yield device.first_kernel(observation, limits)
    yield device.identity(observation, driver_device, gpu)
    yield device.memory_size(observation, limits, driver_device, gpu)
    yield device.memory_free(observation, limits, driver_device, gpu, instance=instance)
    yield device.compute_mode(observation, limits, gpu)
