"""Checks of the start: device nodes, driver, NVML, torch, and how many devices each one counts."""

from probes.contract import Action, Finding, Status, expect, require, skipped
from probes.cuda_available import instances
from probes.cuda_available.observation import Observation
from probes.cuda_available.shared import uses_mps
from probes.cuda_available.spec import Limits
from probes.kit.symptoms import diagnose
from probes.node.device_nodes import Node
from probes.node.hardware import wheel_index
from probes.node.mig import is_named
from probes.node.nvml import NvmlGpu

#: API -> the variables that hide devices from it.
HIDING = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "hip": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
}

#: The hint for an unknown error text.
_UNKNOWN = (
    "confirm with `dmesg | grep -iE 'nvrm|xid|amdgpu'` and `nvidia-smi -q`; repeat on another GPU"
)

#: The value of these variables that Slurm sets in a job that asked for no GPU.
NO_GPU_ASKED = "NoDevFiles"

#: Codes of cuInit with which the variable can be judged: started, no device, invalid device.
_STARTED_CODES = (0, 100, 101)


def kernel_is_right(observation: Observation) -> bool:
    """Whether the kernel ran and every result is right; this outweighs all other signs."""
    comparisons = observation.kernel.comparisons
    return (
        bool(comparisons)
        and not observation.kernel.error
        and all(each.holds for each in comparisons)
    )


def first_line(text: str) -> str:
    """The first line that is not empty, at most 300 characters."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]


def says_busy(text: object) -> bool:
    """Whether an error text says that other processes hold the GPU or its memory."""
    symptom = diagnose(text) if isinstance(text, str) else None
    return symptom is not None and symptom.reason == "gpu_busy"


def error_finding(check: str, what: str, text: str, status: Status = "fail") -> Finding:
    """The finding for an error text, with cause, hint and action where the text is known."""
    symptom = diagnose(text)
    return Finding(
        id=f"cuda_available.{check}",
        status=status,
        message=f"{what}: {first_line(text)}" + (f" ({symptom.cause})" if symptom else ""),
        observed=first_line(text),
        expected="no error",
        hint=symptom.hint if symptom else _UNKNOWN,
        action=symptom.action if symptom and symptom.action != "none" else "investigate",
    )


def no_gpu_asked(observation: Observation) -> bool:
    """Whether this is a Slurm job that asked for no GPU: then none is missing."""
    return any(observation.variables.get(name) == NO_GPU_ASKED for name in HIDING["hip"])


def nvidia_expected(observation: Observation, limits: Limits) -> bool:
    """Whether NVIDIA's libraries must be here: for hardware, or for a promise to a CUDA build."""
    promised = bool(limits.asked) or (isinstance(limits.gpus, int) and limits.gpus > 0)
    other = observation.framework.accelerator not in {
        None,
        "cuda",
    }  # such as an out-of-tree back-end
    return "nvidia" in observation.hardware.vendors or (
        observation.framework.cuda is not None
        and not other
        and (promised or observation.framework.device_count > 0)
    )


def closed_nodes(observation: Observation, gpu: NvmlGpu | None) -> list[Node]:
    """The nodes that this device needs and that did not open.

    Control nodes are always needed. A job scheduler closes the GPU nodes of other jobs, so only
    this device's own node counts; where its number is not known, all of them must be closed.
    """
    control = [node for node in observation.nodes if node.path.endswith(("ctl", "-uvm", "/kfd"))]
    gpus = [node for node in observation.nodes if node not in control]
    if gpu is not None and gpu.minor is not None:
        gpus = [node for node in gpus if node.path.endswith(f"/nvidia{gpu.minor}")]
    needed = [node for node in control if node.problem]
    return needed + (gpus if gpus and all(node.problem for node in gpus) else [])


def access_is_lost(observation: Observation, gpu: NvmlGpu | None) -> bool:
    """Whether this container may not open the GPUs, so that nothing is known about them.

    NVML's Unknown Error is a sign too, but a broken driver gives the same: it counts only where
    there is no node to open.
    """
    if kernel_is_right(observation):
        return False
    denied = [
        node for node in closed_nodes(observation, gpu) if node.problem.startswith(("EPERM", "EAC"))
    ]
    symptom = diagnose(observation.nvml.error)
    return bool(denied) or (
        not observation.nodes and symptom is not None and symptom.reason == "lost_access"
    )


def device_nodes(observation: Observation, gpu: NvmlGpu | None) -> Finding:
    """The nodes in /dev open; a missing permission is an error of the container, no failure."""
    check = "cuda_available.device_nodes"
    if not observation.nodes:
        return skipped(check, "no GPU device nodes in /dev")
    closed = closed_nodes(observation, gpu)
    if kernel_is_right(observation) or not closed:
        return expect(check, "open", "open")
    text = ", ".join(f"{node.path}: {node.problem}" for node in closed)
    denied = access_is_lost(observation, gpu)
    action: Action = "recreate_container" if denied else "investigate"
    if all(node.problem.startswith("ENOENT") for node in closed):
        hint = "confirm with `ls -l /dev/nvidia*`; run `nvidia-modprobe -u -c=0` on the host"
        action = "fix_config"
    elif denied:
        hint = (
            "confirm with `nvidia-smi` here (fails) and on the host (works); recreate the "
            "container, or give this user's group the nodes"
        )
    else:
        hint = "confirm with `dmesg | grep -iE 'nvrm|amdgpu'`; drain the node and reset the GPU"
    return Finding(
        id=check,
        status="error" if denied else "fail",
        message=f"cannot open {text}",
        observed=text,
        expected="open",
        hint=hint,
        action=action,
    )


def driver_starts(observation: Observation, limits: Limits) -> Finding:
    """The driver starts: `cuInit` without torch gives the true cause of a start that fails."""
    check = "cuda_available.driver_starts"
    driver = observation.driver
    if not nvidia_expected(observation, limits):
        return skipped(check, "no NVIDIA GPU here")
    if driver.loaded and driver.init_code == 0:
        return expect(check, driver.init_name, "CUDA_SUCCESS")
    if not driver.loaded:
        what, text = "libcuda.so.1 cannot be loaded", driver.load_error
    else:
        what, text = f"cuInit of {driver.path} gave {driver.init_code}", driver.init_name
    return error_finding(
        "driver_starts", what, text, "warn" if kernel_is_right(observation) else "fail"
    )


def nvml_answers(observation: Observation, limits: Limits, gpu: NvmlGpu | None) -> Finding:
    """NVML answers for the node and for this GPU; counts and memory depend on it."""
    check = "cuda_available.nvml_answers"
    if not nvidia_expected(observation, limits):
        return skipped(check, "no NVIDIA GPU here")
    failure: Status = "warn" if kernel_is_right(observation) else "fail"
    integrated = any(device.integrated for device in observation.driver.devices)
    symptom = diagnose(observation.nvml.error)
    if integrated and symptom is not None and symptom.name == "nvml_library_missing":
        return skipped(check, "an integrated GPU, whose driver comes without NVML")
    if observation.nvml.error:
        status: Status = "error" if access_is_lost(observation, gpu) else failure
        return error_finding("nvml_answers", "NVML does not answer", observation.nvml.error, status)
    if gpu is not None and gpu.error:
        symptom = diagnose(gpu.error)
        gone = symptom is not None and symptom.name in {"gpu_lost", "gpu_reset_required"}
        what = f"NVML answers badly for GPU {gpu.index}"
        return error_finding("nvml_answers", what, gpu.error, "fail" if gone else failure)
    return expect(check, "answers", "answers")


def torch_starts(observation: Observation) -> Finding:
    """The back-end starts, by the call that raises; a known warning of torch is a warning here."""
    check = "cuda_available.torch_starts"
    framework = observation.framework
    if framework.error:
        what = f"torch {framework.version} cannot start its GPU back-end"
        return error_finding("torch_starts", what, framework.error)
    if framework.accelerator is None and observation.device == "cpu":
        return skipped(check, f"torch {framework.version} has no GPU back-end to start")
    known = [text for text in framework.warnings if diagnose(text)]
    if known:
        return error_finding("torch_starts", "torch starts with a warning", known[0], "warn")
    return expect(check, "starts", "starts")


def wrong_build_hint(observation: Observation) -> str:
    """The hint to install another build, where this one supports none of the GPUs; else empty."""
    vendors, framework = observation.hardware.vendors, observation.framework
    if "nvidia" in vendors and framework.cuda is None:
        index = wheel_index(("nvidia",))
    elif "amd" in vendors and framework.hip is None:
        index = wheel_index(("amd",))
    elif vendors == ("intel",) and framework.accelerator is None:
        index = wheel_index(vendors)
    else:
        return ""
    return (
        "compare `lspci | grep -iE 'vga|3d|processing'` with `python -c 'import torch; "
        "print(torch.__version__)'`; install and pin the build for this GPU, as in "
        f"`pip install torch --index-url {index}`"
    )


def enough_gpus(observation: Observation, limits: Limits) -> Finding:
    """There are as many GPUs as promised; without a promise at least one if there is hardware."""
    check = "cuda_available.enough_gpus"
    count = instances.usable_gpus(observation)
    if isinstance(limits.gpus, int):
        least, why = limits.gpus, f"promised: {limits.gpus}"
    else:
        least, why = (
            int(bool(observation.hardware.vendors)),
            "; ".join(observation.hardware.evidence[:3]),
        )
    if limits.asked and observation.device == "cpu":  # the device that was asked for is not listed
        least, why = max(least, 1), f"asked for were {', '.join(limits.asked[:8])}"
    hiding, symptom = (
        hiding_variable(observation),
        diagnose(observation.framework.error or observation.driver.load_error),
    )
    action: Action = symptom.action if symptom else "investigate"
    hint = symptom.hint if symptom else "compare `nvidia-smi -L` with `lspci`; look for lost GPUs"
    if wrong_build_hint(observation):
        hint, action = wrong_build_hint(observation), "fix_image"
    elif no_gpu_asked(observation):
        hint = "ask for GPUs, as in `srun --gpus=1`, or expect none here (expect.gpus: 0)"
        why, action = f"{why}; the Slurm job asked for no GPU", "fix_config"
    elif hiding:
        hint = f"`echo ${hiding[0]}` gives {hiding[1]!r}; unset it, or expect fewer GPUs"
        action = "fix_config"
    return require(
        check,
        count >= least,
        count,
        f">= {least}",
        message=f"torch {observation.framework.version} can use {count} GPUs where {least} must be "
        f"usable: {why}",
        hint=hint,
        action=action,
        otherwise="error" if no_gpu_asked(observation) else "fail",
    )


def hiding_variable(observation: Observation) -> tuple[str, str] | None:
    """The variable that hides devices, and its value; None where none is set."""
    names = HIDING["hip" if observation.framework.hip else "cuda"]
    return next(
        ((name, observation.variables[name]) for name in names if name in observation.variables),
        None,
    )


def visible_devices(observation: Observation) -> Finding:
    """Every entry of CUDA_VISIBLE_DEVICES is a device: the first bad one hides all after it."""
    check = "cuda_available.visible_devices"
    hiding = hiding_variable(observation)
    if hiding is None or (observation.framework.cuda or observation.framework.hip) is None:
        return skipped(check, "no variable hides devices from this torch")
    if (
        observation.framework.cuda is not None
        and observation.driver.init_code not in _STARTED_CODES
    ):
        return skipped(check, "the driver did not start")
    if no_gpu_asked(observation):
        return skipped(check, "the Slurm job asked for no GPU")
    name, value = hiding
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    count = observation.framework.device_count
    if entries and all(entry.upper().startswith("MIG-") for entry in entries) and count == 1:
        return _visible_instances(observation, name, entries)
    listed = len(entries)
    if (
        observation.visible_before is not None
    ):  # the worker chose the one that this process is shown
        count = sum(_is_known(observation, entry) for entry in entries)
    return require(
        check,
        count == listed and listed > 0,
        f"{name}={value!r} leaves {count} devices",
        f"{max(listed, 1)} devices",
        message=f"{name}={value!r} lists {listed} devices and torch sees {count}: a bad or repeated"
        " entry hides all after it, and an empty list hides all",
        hint=f"compare `echo ${name}` with `nvidia-smi -L`; list existing indices or UUIDs, and of "
        "MIG instances one a process",
        action="fix_config",
    )


def _visible_instances(observation: Observation, name: str, entries: list[str]) -> Finding:
    """Several listed MIG instances are right, though CUDA shows each process only one."""
    unknown = (
        []
        if observation.nvml.error
        else [each for each in entries if not _is_known(observation, each)]
    )
    return require(
        "cuda_available.visible_devices",
        not unknown,
        f"{len(entries)} MIG instances, of which CUDA shows a process one",
        "instances that NVML knows",
        message=f"{name} lists {', '.join(unknown)}, which NVML does not know: a bad entry hides "
        "all after it",
        hint=f"compare `echo ${name}` with `nvidia-smi -L`; list existing instances",
        action="fix_config",
    )


def _is_known(observation: Observation, entry: str) -> bool:
    """Whether an entry is the UUID of a device that NVML lists, or the start of it."""
    return any(
        is_named(entry, gpu, instance)
        for gpu in instances.accessible_gpus(observation)
        for instance in (None, *gpu.mig_instances)
    ) or any(
        uuid.startswith(entry)
        for gpu in instances.accessible_gpus(observation)
        for uuid in gpu.mig_uuids
    )


def counts_agree(observation: Observation) -> Finding:
    """Torch, the driver and NVML count the same devices, or fewer with a variable or MIG."""
    check = "cuda_available.counts_agree"
    count, driver = observation.framework.device_count, observation.driver.device_count
    if observation.framework.cuda is None or observation.driver.init_code != 0:
        return skipped(check, "no CUDA driver that could be counted with")
    gpus = instances.accessible_gpus(observation)
    mig_enabled = any(gpu.mig_enabled for gpu in gpus)
    most_devices = sum(max(1, len(gpu.mig_uuids)) for gpu in gpus)
    nvml_works = not observation.nvml.error
    narrowed = hiding_variable(observation) is not None or mig_enabled
    agrees = driver is not None and count == driver
    # The MPS server decides which GPUs its clients see, and may divide one among them.
    if nvml_works and driver is not None and not uses_mps(observation):
        agrees = agrees and (driver <= most_devices if narrowed else driver == len(gpus))
    counts = f"torch {count}, driver {driver}, NVML {len(gpus) if nvml_works else 'unknown'}"
    lost = [f"GPU {gpu.index} {gpu.error}" for gpu in gpus if gpu.error]
    return require(
        check,
        agrees,
        counts,
        "one number",
        message=f"the number of devices differs: {counts}" + "".join(f"; {text}" for text in lost),
        hint="compare `nvidia-smi -L` with `lspci -d 10de:` and `dmesg | grep -i xid`; drain the "
        "node when a GPU is gone",
    )
