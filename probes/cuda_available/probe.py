"""What is observed on a device, and the verdicts on it."""

from collections.abc import Iterator
from typing import Final

from probes.contract import GPU_BUSY, Finding, Measurement, skipped
from probes.cuda_available import device, instances, lost, start
from probes.cuda_available.seen import Seen, observe
from probes.cuda_available.spec import Limits
from probes.node.cuda_driver import DriverDevice, match
from probes.node.nvml import NvmlGpu

__all__ = ["Limits", "Seen", "judge", "measure", "observe"]

#: Checks that fail as a consequence when the GPU is busy or may not be opened.
_CONSEQUENCES = {
    *("driver_starts", "torch_starts", "kernel", "is_available", "enough_gpus", "counts_agree"),
    *("visible_devices", "accelerator_api", "identity", "memory_size", "nvml_answers"),
}

#: What a GPU that says "busy" deserves when NVML has seen that nobody uses it.
_YET = "- yet NVML saw no other process, and no mode that excludes one, a moment before"
_IDLE: Final[dict[str, str]] = {
    "hint": "confirm with `nvidia-smi --query-gpu=compute_mode,memory.used --format=csv` and "
    "`nvidia-smi --query-compute-apps=pid --format=csv`; drain the node and reset the GPU",
    "action": "reset_gpu",
}


def judge(seen: Seen, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Hold what was seen against what is expected; what others caused is skipped, never failed."""
    findings = list(_findings(seen, limits))
    if why := _nothing_to_judge(seen, limits):
        yield from (skipped(finding.id, why) for finding in findings)
        return
    unasked = start.no_gpu_asked(seen)
    gpu = _matched(seen)[1]
    text, possible = device.busy(seen, limits, gpu)
    closed = start.access_is_lost(seen, gpu)
    for finding in findings:
        failed = finding.status == "fail" and finding.id.partition(".")[2] in _CONSEQUENCES
        if possible and (failed or finding.status in {"pass", "warn"}):
            yield skipped(finding.id, f"{GPU_BUSY}: {start.shorten(text)}")
        elif unasked and failed:
            yield skipped(finding.id, "the Slurm job asked for no GPU")
        elif closed and failed:
            yield skipped(finding.id, "the device nodes cannot be opened: nothing can be told")
        elif text and failed and start.says_busy(finding.observed):
            yield finding.model_copy(update=_IDLE | {"message": f"{finding.message} {_YET}"})
        else:
            yield finding


def measure(seen: Seen) -> Iterator[Measurement]:
    """How long the start took, step by step, and the device's memory."""
    seconds = {
        "driver_start_seconds": seen.driver_s if seen.driver.loaded else None,
        "torch_start_seconds": seen.framework_s if seen.framework.accelerator else None,
        "first_kernel_seconds": seen.kernel.first_s,
    }
    for name, value in seconds.items():
        if value is not None:
            yield Measurement(name=name, value=value, unit="seconds")
    if seen.framework.memory_total_bytes is not None:
        total = float(seen.framework.memory_total_bytes)
        yield Measurement(name="device_memory_bytes", value=total, unit="bytes")


def _nothing_to_judge(seen: Seen, limits: Limits) -> str:
    """Why no check applies; empty when they do."""
    if seen.device != "cpu":
        return ""
    if seen.framework.device_count:
        return f"each of the {seen.framework.device_count} accelerators is judged for itself"
    promised = bool(limits.asked) or (isinstance(limits.gpus, int) and limits.gpus > 0)
    return "" if promised else _unpromised(seen, limits)


def _unpromised(seen: Seen, limits: Limits) -> str:
    """Why no GPU has to be here, where none was promised; empty when the hardware is."""
    if limits.gpus == 0:
        return "no GPU is expected here"
    if start.no_gpu_asked(seen):
        return f"the Slurm job asked for no GPU ({start.NO_GPU_ASKED})"
    return "" if seen.hardware.vendors else "no GPU is present"


def _matched(seen: Seen) -> tuple[DriverDevice | None, NvmlGpu | None]:
    """The driver's and NVML's view of this device; none for the CPU or another vendor's."""
    kind, _, index = seen.device.partition(":")
    if kind != "cuda" or seen.framework.cuda is None:
        return None, None
    count = seen.framework.device_count
    return match(int(index or 0), count, seen.driver, seen.nvml, seen.variables)


def _findings(seen: Seen, limits: Limits) -> Iterator[Finding]:
    """Every check, as if nothing excused it."""
    listed, gpu = _matched(seen)
    instance = listed is not None and gpu is not None and listed.uuid in gpu.mig_uuids
    yield start.device_nodes(seen, gpu)
    yield start.driver_starts(seen, limits)
    yield start.nvml_answers(seen, limits, gpu)
    yield start.torch_starts(seen)
    yield device.available(seen)
    yield start.enough_gpus(seen, limits)
    yield lost.all_gpus(seen, limits, instances.usable_gpus(seen))
    yield instances.mig_instances(seen, limits)
    yield start.visible_devices(seen)
    yield start.counts_agree(seen)
    if seen.device == "cpu":
        names = ("accelerator_api", "kernel", "first_kernel", "identity", "memory_size")
        for name in (*names, "memory_free", "compute_mode"):
            yield skipped(f"cuda_available.{name}", "no accelerator to ask")
        return
    yield device.generic(seen)
    yield device.kernel(seen)
    yield device.first_kernel(seen, limits)
    yield device.identity(seen, listed, gpu)
    yield device.memory_size(seen, limits, listed, gpu)
    yield device.memory_free(seen, limits, listed, gpu, instance=instance)
    yield device.compute_mode(seen, limits, gpu)
