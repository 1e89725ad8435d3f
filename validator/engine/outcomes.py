"""Results that no child could write itself: it hung, died, was never started, or must not run."""

from datetime import datetime, timezone
from typing import Any, Final

from probes.catalog import CUDA_AVAILABLE, TORCH_VERSION
from probes.contract import COMPLETES, Action, Failure, Finding, ProbeSpec, Reason, Result, Status
from validator.engine import cgroup
from validator.engine.held_up import HINT
from validator.report import CPU, Device

#: What a fatal signal usually means in a process that computes.
_SIGNAL_HINTS: Final = {
    "SIGILL": "the CPU lacks an instruction that this build uses (often AVX, in a virtual machine)",
    "SIGBUS": "a mapped file or /dev/shm ran out of space, or memory is faulty",
    "SIGSEGV": "a library crashed: the log's tail names the frames",
    "SIGABRT": "a library gave up: the log's tail says why",
    "SIGFPE": "an arithmetic trap in native code",
}


def make_result(
    spec: ProbeSpec,
    device: Device,
    status: Status,
    reason: Reason,
    summary: str,
    *,
    check: str = COMPLETES,
    hint: str = "",
    action: Action = "none",
    **fields: Any,
) -> Result:
    """A result with the one finding that says why; `fields` are those of `Result`."""
    finding = Finding(
        id=f"{spec.name}.{check}",
        status=status,
        message=summary,
        hint=hint,
        action=action,
    )
    defaults = {"started_at": datetime.now(timezone.utc), "duration_s": 0.0}
    return Result(
        probe=spec.name,
        device=device.name,
        gpu_uuid=device.uuid,
        status=status,
        reason=reason,
        summary=summary,
        findings=(finding,),
        **{**defaults, **fields},
    )


def _blame(spec: ProbeSpec, device: Device) -> Action:
    """What a hang or crash on this device asks for: a GPU is taken out, an image looked into.

    `cuda_available` stands in the CPU's place where no GPU could be listed.
    """
    return "investigate" if device.type == "cpu" and spec is not CUDA_AVAILABLE else "drain"


def timed_out(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """The deadline passed, and the process was killed."""
    hint = "the log's tail shows where it hung"
    if spec is CUDA_AVAILABLE:
        hint += "; confirm with `timeout 20 nvidia-smi` and `dmesg | grep -iE 'nvrm|xid'`; drain "
        hint += "the node and reset the GPU, or reboot when that hangs too"
    action = _blame(spec, device)
    return make_result(spec, device, "fail", "timeout", text, hint=hint, action=action, **fields)


def cut_short(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """A deadline passed that was not the probe's own: what hung before it is told there."""
    hint = "mend what hung first, and run the check again: nothing is told of this probe"
    return make_result(
        spec, device, "error", "timeout", text, hint=hint, action="investigate", **fields
    )


def unkillable(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """The deadline passed, and the process is held by the driver: even SIGKILL does not end it."""
    return make_result(
        spec,
        device,
        "fail",
        "timeout",
        f"{text}, and the process cannot be killed: the driver holds it",
        hint="confirm with `ps -eo pid,stat,wchan:32,args | grep ' D'`; drain and reboot the node",
        action="reboot_node",
        **fields,
    )


def not_ended(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """Even SIGKILL did not end it in time, and no driver holds it; the text says what does."""
    text = f"{text}, and the process has not ended by SIGKILL yet"
    return _untold(spec, device, text, hint=HINT, action="fix_config", **fields)


def crashed(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """A fatal signal ended it; the text's last word is its name."""
    hint = _SIGNAL_HINTS.get(text.rpartition(" ")[2], "the log's tail may say why")
    action = _blame(spec, device)
    return make_result(spec, device, "fail", "crashed", text, hint=hint, action=action, **fields)


def _untold(
    spec: ProbeSpec, device: Device, text: str, *, hint: str, action: Action, **fields: Any
) -> Result:
    """An `error`: what ended the process says nothing about the machine."""
    return make_result(
        spec, device, "error", "internal_error", text, hint=hint, action=action, **fields
    )


def killed(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """Somebody else ended it, again and again: nothing is told about the machine."""
    return _untold(
        spec,
        device,
        text,
        hint="somebody killed it: look at `dmesg | tail` (a machine check kills too), and at what "
        "ends processes here (earlyoom, systemd-oomd, the batch system)",
        action="investigate",
        **fields,
    )


def stopped(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """The deadline passed while somebody else held it still: nothing is told about the machine."""
    return _untold(
        spec,
        device,
        f"{text}: the process was stopped by somebody (SIGSTOP, a debugger)",
        hint="look at what stops processes here, and run the check again",
        action="investigate",
        **fields,
    )


def not_begun(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """Its processes never came to it, again and again: nothing is told about torch or a device."""
    return _untold(
        spec,
        device,
        f"{text}: its process never came to it",
        hint="look at what slows this host: the disk or network that the image is read from "
        "(`cat /proc/pressure/io`), the processors (`uptime`); run the check again",
        action="investigate",
        **fields,
    )


def held_up(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """The deadline passed while it waited for a processor, memory or a file: nothing is told."""
    return _untold(spec, device, text, hint=HINT, action="fix_config", **fields)


def out_of_memory(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """The memory limit of our own control group ended it: nothing is told about the machine."""
    return _untold(
        spec,
        device,
        f"{text}, {cgroup.describe_memory_limit()}",
        hint="raise the memory limit of the validator's container",
        action="fix_config",
        **fields,
    )


def broken(spec: ProbeSpec, device: Device, text: str, **fields: Any) -> Result:
    """The child or the worker broke the protocol, or went away: nothing is told."""
    hint = "run `gpu-validator check --log.level debug`, and report it with the log's tail"
    return _untold(
        spec,
        device,
        text,
        hint=hint,
        action="investigate",
        **fields,
    )


def import_failed(
    summary: str,
    *,
    hint: str = "",
    action: Action = "fix_image",
    error: Failure | None = None,
    **fields: Any,
) -> Result:
    """Torch or NumPy cannot be imported: the first promise of the environment is broken."""
    hint = hint or "confirm with `python -X faulthandler -c 'import torch, numpy'` in this image"
    return make_result(
        TORCH_VERSION,
        CPU,
        "fail",
        "import_failed",
        summary,
        check="imports",
        hint=hint,
        action=action,
        error=error,
        **fields,
    )


def not_imported(summary: str, *, hint: str, **fields: Any) -> Result:
    """The import of torch came to no end of its own: nothing is told about torch."""
    return make_result(
        TORCH_VERSION,
        CPU,
        "error",
        "internal_error",
        summary,
        check="imports",
        hint=hint,
        action="fix_config",
        **fields,
    )


def dependency(spec: ProbeSpec, device: Device, cause: Result) -> Result:
    """What it needs failed already, and that is told there."""
    checks = [finding.id for finding in cause.findings if finding.status == cause.status]
    text = f"needs torch and NumPy, which were not imported: see {checks[0]}"
    return make_result(spec, device, "skip", "dependency", text)


def disabled(spec: ProbeSpec, device: Device) -> Result:
    """Switched off in the settings."""
    return make_result(spec, device, "skip", "disabled", f"probes.{spec.name}.enabled is false")


def busy(spec: ProbeSpec, device: Device, why: str, **fields: Any) -> Result:
    """Others use the GPU, and this probe would disturb them or fail for their sake."""
    return make_result(spec, device, "skip", "gpu_busy", why, **fields)


def no_such_device(spec: ProbeSpec, device: Device, present: str) -> Result:
    """A device was asked for, which promises that it is there, and it is not."""
    return make_result(
        spec,
        device,
        "fail",
        "no_device",
        f"not here, though it was asked for: there is {present}",
        check="all_gpus" if spec is CUDA_AVAILABLE else COMPLETES,
        hint="compare `nvidia-smi -L` with `lspci -d 10de:` and `echo $CUDA_VISIBLE_DEVICES`; look "
        "for a lost GPU, or ask for a device that is there",
        action="investigate",
    )


def not_here(spec: ProbeSpec, device: Device, told_by: str) -> Result:
    """A device that was asked for is not there, which another probe tells."""
    text = f"{device.name!r} is not here: {told_by} says why"
    return make_result(spec, device, "skip", "dependency", text)


def no_name_of_a_device(spec: ProbeSpec, device: Device, present: str) -> Result:
    """What was asked for is no device's name: wrong usage, which says nothing of the machine."""
    return make_result(
        spec,
        device,
        "error",
        "no_device",
        f"{device.name!r} is no device's name here; there is {present}",
        hint="name one of those present, as `cuda:N`, by UUID or by PCI address",
        action="fix_config",
    )


def not_listed(spec: ProbeSpec, device: Device) -> Result:
    """A device was asked for, and no list of the devices could be had."""
    text = f"whether {device.name!r} is here cannot be told: the devices could not be listed"
    return broken(spec, device, text)
