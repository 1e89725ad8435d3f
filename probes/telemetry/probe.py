"""What the boards and the kernel's log say, and the findings about it."""

from collections.abc import Iterator, Sequence
from typing import Final

from probes import contract
from probes.contract import Action, Finding, Measurement, require, skipped
from probes.kit import breadcrumb, watching
from probes.kit.symptoms import diagnose
from probes.node import gpu_events, gpu_health, hardware, kernel_log
from probes.telemetry import boards, changes, log
from probes.telemetry.spec import SPEC, Limits

__all__ = ["Limits", "Observation", "judge", "measure", "observe"]


#: The device node of a GPU that is a part of its processor.
_JETSON: Final = "/dev/nvhost-gpu"


class Observation(contract.Observation):
    """The hardware, NVML's answers about every GPU, and the Xid lines of the kernel's log."""

    hardware: hardware.Hardware
    health: gpu_health.Health
    log: kernel_log.KernelLog = kernel_log.KernelLog()
    #: NVML's answers before the other probes of the run, and its events meanwhile, where the run
    #: has heavy ones; `health` is then what it answered after them.
    before: gpu_health.Health | None = None
    events: gpu_events.Events | None = None


def observe(device: str) -> Observation:  # noqa: ARG001 - it is about the whole node
    """Ask NVML about every GPU; nothing is asked where there is no GPU of NVIDIA's."""
    present = hardware.detect()
    if "nvidia" not in present.vendors:
        return Observation(hardware=present, health=gpu_health.Health())
    breadcrumb.operation("NVML")
    health = gpu_health.read(breadcrumb.operation)
    before, events = None, None
    if watching.is_wanted():
        breadcrumb.operation("NVML, events")
        before, events = health, gpu_events.watch(watching.goes_on)
        health = gpu_health.read(breadcrumb.operation)
    breadcrumb.operation("the kernel's log")
    return Observation(
        hardware=present, health=health, log=kernel_log.read(), before=before, events=events
    )


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield the findings; what a board does not tell is skipped."""
    gpus = [gpu for gpu in observation.health.gpus if gpu.accessible]
    found = {"answers": _answers(observation, limits), "enough_gpus": _enough(observation, limits)}
    why = _nothing_told(observation)
    for check in SPEC.checks:
        if check in found:
            yield found[check]
        elif why:
            yield skipped(f"{SPEC.name}.{check}", why)
        elif check == "xids":
            yield log.judge(observation.log, gpus, limits)
        elif check in _WATCHED:
            yield _watched(check, observation, gpus, limits)
        else:
            yield boards.judge(check, gpus, limits)


_WATCHED: Final = ("new_errors", "new_xids")


def _watched(
    check: str, observation: Observation, gpus: Sequence[gpu_health.GpuHealth], limits: Limits
) -> Finding:
    """What changed while heavy probes ran."""
    before, events = observation.before, observation.events
    if before is None or events is None:
        return skipped(f"{SPEC.name}.{check}", "no heavy probe (standard, deep) was watched")
    if check == "new_xids":
        return log.judge_events(events, gpus, limits)
    if before.error:
        return skipped(f"{SPEC.name}.{check}", f"NVML told nothing before: {before.error}")
    return changes.judge(before.gpus, observation.health.gpus, events.watched_s, limits)


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield sums and maxima over the GPUs, of what any of them tells."""
    gpus = observation.health.gpus
    for name, field, unit in (
        ("gpu_uncorrected_memory_errors", "volatile_uncorrected", "errors"),
        ("gpu_corrected_memory_errors", "volatile_corrected", "errors"),
        ("gpu_remapped_rows", "rows_remapped", "rows"),
        ("gpu_pcie_replays", "pcie_replays", "replays"),
        ("gpu_nvlink_recoveries", "nvlink_recoveries", "recoveries"),
        ("gpu_thermal_violation_seconds", "thermal_violation_s", "seconds"),
    ):
        values = [value for gpu in gpus if (value := getattr(gpu, field)) is not None]
        if values:
            yield Measurement(name=name, value=sum(values), unit=unit)
    hottest = [gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None]
    if hottest:
        yield Measurement(name="gpu_temperature_celsius", value=max(hottest), unit="celsius")


def _answers(observation: Observation, limits: Limits) -> Finding:
    """That NVML starts where GPUs are given to this process, and finds each of them."""
    check, health = f"{SPEC.name}.answers", observation.health
    if health.error:
        symptom = diagnose(health.error)
        if not _is_given(observation, limits):
            return skipped(check, f"no GPU is given to this process: {health.error}")
        return Finding(
            id=check,
            status="error",
            message=health.error,
            observed=health.error,
            expected="NVML starts",
            hint=symptom.hint if symptom else "confirm with `nvidia-smi`",
            action=symptom.action if symptom else "investigate",
        )
    if why := _nothing_told(observation):
        return skipped(check, why)
    return boards.judge("answers", [gpu for gpu in health.gpus if gpu.accessible], limits)


def _is_given(observation: Observation, limits: Limits) -> bool:
    """Whether this process was given a GPU that NVML knows: a promise, or a device node of one."""
    evidence = observation.hardware.evidence
    if any(each.startswith(_JETSON) for each in evidence):  # many releases there have no NVML
        return False
    nodes = any(each.startswith("/dev/nvidia") for each in evidence)
    return nodes or _promised(limits) > 0


def _promised(limits: Limits) -> int:
    return limits.gpus if isinstance(limits.gpus, int) else 0


def _enough(observation: Observation, limits: Limits) -> Finding:
    """That NVML lists as many GPUs as promised; those of other jobs do not count."""
    check, promised = f"{SPEC.name}.enough_gpus", _promised(limits)
    vendors = observation.hardware.vendors
    if not promised:
        return skipped(check, "no number of GPUs is promised (expect.gpus)")
    if observation.health.error or (vendors and "nvidia" not in vendors):
        return skipped(check, observation.health.error or _of_others(vendors))
    count = sum(gpu.accessible for gpu in observation.health.gpus)
    message = f"{count} of {promised} GPUs are listed by NVML"
    hint = "compare `nvidia-smi -L` with `lspci -d 10de:` and `dmesg | grep -i xid`"
    action: Action = "drain"
    if not vendors:  # lost, or never there: a laptop, a machine of another pool
        message = f"0 of {promised} GPUs are here: no PCI device, no device node, no driver"
        hint = "expect.gpus: 0 where no GPU belongs; else look at `lspci -d 10de:` on the host"
        action = "investigate"
    return require(
        check, count >= promised, count, promised, message=message, hint=hint, action=action
    )


def _nothing_told(observation: Observation) -> str:
    """Why there is nothing to judge; empty where there is."""
    vendors = observation.hardware.vendors
    if not vendors:
        return "no GPU is here"
    if "nvidia" not in vendors:
        return _of_others(vendors)
    if observation.health.error:
        return f"NVML tells nothing: {observation.health.error}"
    if not any(gpu.accessible for gpu in observation.health.gpus):
        return "NVML shows no GPU to this process"
    return ""


def _of_others(vendors: tuple[str, ...]) -> str:
    return f"NVML is NVIDIA's, and the GPUs here are of {' and '.join(vendors)}"
