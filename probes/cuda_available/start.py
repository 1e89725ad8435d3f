"""Checks of the start: device nodes, driver, NVML, torch, and how many devices each one counts."""

from probes.contract import Action, Finding, Status, expect, require, skipped
from probes.cuda_available import instances
from probes.cuda_available.observation import Node, Observation
from probes.cuda_available.shared import by_mps
from probes.cuda_available.spec import Limits
from probes.kit.symptoms import diagnose
from probes.node.hardware import wheel_index
from probes.node.mig import is_named
from probes.node.nvml import NvmlGpu

#: Variables that hide devices, and the API that reads them.
HIDING = {
    "cuda": ("CUDA_VISIBLE_DEVICES",),
    "hip": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
}

#: For an error text that nobody has explained yet.
_UNKNOWN = (
    "confirm with `dmesg | grep -iE 'nvrm|xid|amdgpu'` and `nvidia-smi -q`; repeat on another GPU"
)

#: What Slurm puts into such a variable of a job that asked for no GPU.
NO_GPU_ASKED = "NoDevFiles"

#: Codes of cuInit after which the variable can be judged: started, no device, invalid device.
_LISTED = (0, 100, 101)


def right(observation: Observation) -> bool:
    """Whether the device computed, and computed right: the proof that outweighs all others."""
    comparisons = observation.kernel.comparisons
    return (
        bool(comparisons)
        and not observation.kernel.error
        and all(each.holds for each in comparisons)
    )


def shorten(text: str) -> str:
    """The first line that says something, to be read in a table."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]


def says_busy(text: object) -> bool:
    """Whether an error text blames others, who hold the GPU or its memory."""
    symptom = diagnose(text) if isinstance(text, str) else None
    return symptom is not None and symptom.reason == "gpu_busy"


def broken(check: str, what: str, text: str, status: Status = "fail") -> Finding:
    """A finding about an error text, with cause, hint and action where the text is known."""
    symptom = diagnose(text)
    return Finding(
        id=f"cuda_available.{check}",
        status=status,
        message=f"{what}: {shorten(text)}" + (f" ({symptom.cause})" if symptom else ""),
        observed=shorten(text),
        expected="no error",
        hint=symptom.hint if symptom else _UNKNOWN,
        action=symptom.action if symptom and symptom.action != "none" else "investigate",
    )


def no_gpu_asked(observation: Observation) -> bool:
    """Whether this is a Slurm job that asked for no GPU: then none is missing."""
    return any(observation.variables.get(name) == NO_GPU_ASKED for name in HIDING["hip"])


def nvidia_expected(observation: Observation, limits: Limits) -> bool:
    """Whether NVIDIA's libraries have to be here: hardware, or a promise to a CUDA build."""
    promised = bool(limits.asked) or (isinstance(limits.gpus, int) and limits.gpus > 0)
    other = observation.framework.accelerator not in {None, "cuda"}  # as an out-of-tree back-end is
    return "nvidia" in observation.hardware.vendors or (
        observation.framework.cuda is not None
        and not other
        and (promised or observation.framework.device_count > 0)
    )


def closed_nodes(observation: Observation, gpu: NvmlGpu | None) -> list[Node]:
    """The nodes that this device needs and that did not open.

    A control node is needed always; a job scheduler closes other jobs' GPUs, so of the GPU nodes
    only this device's own counts, or all of them together where its number is not known.
    """
    control = [node for node in observation.nodes if node.path.endswith(("ctl", "-uvm", "/kfd"))]
    gpus = [node for node in observation.nodes if node not in control]
    if gpu is not None and gpu.minor is not None:
        gpus = [node for node in gpus if node.path.endswith(f"/nvidia{gpu.minor}")]
    needed = [node for node in control if node.problem]
    return needed + (gpus if gpus and all(node.problem for node in gpus) else [])


def access_is_lost(observation: Observation, gpu: NvmlGpu | None) -> bool:
    """Whether this container may not open the GPUs, so that nothing can be told about them.

    NVML's Unknown Error says so too, but a broken driver says the same: it counts only where no
    node is left to open.
    """
    if right(observation):
        return False
    denied = [
        node for node in closed_nodes(observation, gpu) if node.problem.startswith(("EPERM", "EAC"))
    ]
    symptom = diagnose(observation.nvml.error)
    return bool(denied) or (
        not observation.nodes and symptom is not None and symptom.reason == "lost_access"
    )


def device_nodes(observation: Observation, gpu: NvmlGpu | None) -> Finding:
    """The nodes in /dev open; no permission is for the container to mend, not for the node."""
    check = "cuda_available.device_nodes"
    if not observation.nodes:
        return skipped(check, "no GPU device nodes in /dev")
    closed = closed_nodes(observation, gpu)
    if right(observation) or not closed:
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
    """`cuInit`, without torch: the true cause of a start that fails."""
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
    return broken("driver_starts", what, text, "warn" if right(observation) else "fail")


def nvml_answers(observation: Observation, limits: Limits, gpu: NvmlGpu | None) -> Finding:
    """NVML answers for the node and for this GPU; without it counts and memory are guesses."""
    check = "cuda_available.nvml_answers"
    if not nvidia_expected(observation, limits):
        return skipped(check, "no NVIDIA GPU here")
    lesser: Status = "warn" if right(observation) else "fail"
    integrated = any(device.integrated for device in observation.driver.devices)
    symptom = diagnose(observation.nvml.error)
    if integrated and symptom is not None and symptom.name == "nvml_library_missing":
        return skipped(check, "an integrated GPU, whose driver comes without NVML")
    if observation.nvml.error:
        status: Status = "error" if access_is_lost(observation, gpu) else lesser
        return broken("nvml_answers", "NVML does not answer", observation.nvml.error, status)
    if gpu is not None and gpu.error:
        symptom = diagnose(gpu.error)
        gone = symptom is not None and symptom.name in {"gpu_lost", "gpu_reset_required"}
        what = f"NVML answers badly for GPU {gpu.index}"
        return broken("nvml_answers", what, gpu.error, "fail" if gone else lesser)
    return expect(check, "answers", "answers")


def torch_starts(observation: Observation) -> Finding:
    """The back-end starts, by the call that raises; a warning that is known is told."""
    check = "cuda_available.torch_starts"
    framework = observation.framework
    if framework.error:
        what = f"torch {framework.version} cannot start its GPU back-end"
        return broken("torch_starts", what, framework.error)
    if framework.accelerator is None and observation.device == "cpu":
        return skipped(check, f"torch {framework.version} has no GPU back-end to start")
    known = [text for text in framework.warnings if diagnose(text)]
    if known:
        return broken("torch_starts", "torch starts with a warning", known[0], "warn")
    return expect(check, "starts", "starts")


def wrong_build(observation: Observation) -> str:
    """How this torch cannot know the GPUs that are here; empty when it could."""
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
    """As many GPUs as promised; without a promise at least one where the hardware is present."""
    check = "cuda_available.enough_gpus"
    count = instances.usable_gpus(observation)
    if isinstance(limits.gpus, int):
        least, why = limits.gpus, f"promised: {limits.gpus}"
    else:
        least, why = (
            int(bool(observation.hardware.vendors)),
            "; ".join(observation.hardware.evidence[:3]),
        )
    if (
        limits.asked and observation.device == "cpu"
    ):  # in the place of devices that nobody could list
        least, why = max(least, 1), f"asked for were {', '.join(limits.asked[:8])}"
    hidden, symptom = (
        hides(observation),
        diagnose(observation.framework.error or observation.driver.load_error),
    )
    action: Action = symptom.action if symptom else "investigate"
    hint = symptom.hint if symptom else "compare `nvidia-smi -L` with `lspci`; look for lost GPUs"
    if wrong_build(observation):
        hint, action = wrong_build(observation), "fix_image"
    elif no_gpu_asked(observation):
        hint = "ask for GPUs, as in `srun --gpus=1`, or expect none here (expect.gpus: 0)"
        why, action = f"{why}; the Slurm job asked for no GPU", "fix_config"
    elif hidden:
        hint = f"`echo ${hidden[0]}` gives {hidden[1]!r}; unset it, or expect fewer GPUs"
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


def hides(observation: Observation) -> tuple[str, str] | None:
    """The variable that hides devices, and its value."""
    names = HIDING["hip" if observation.framework.hip else "cuda"]
    return next(
        ((name, observation.variables[name]) for name in names if name in observation.variables),
        None,
    )


def visible_devices(observation: Observation) -> Finding:
    """Every entry of CUDA_VISIBLE_DEVICES is a device: the first bad one hides all after it."""
    check = "cuda_available.visible_devices"
    hidden = hides(observation)
    if hidden is None or (observation.framework.cuda or observation.framework.hip) is None:
        return skipped(check, "no variable hides devices from this torch")
    if observation.framework.cuda is not None and observation.driver.init_code not in _LISTED:
        return skipped(check, "the driver did not start")
    if no_gpu_asked(observation):
        return skipped(check, "the Slurm job asked for no GPU")
    name, value = hidden
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    count = observation.framework.device_count
    if entries and all(entry.upper().startswith("MIG-") for entry in entries) and count == 1:
        return _visible_instances(observation, name, entries)
    listed = len(entries)
    if (
        observation.visible_before is not None
    ):  # which of them this process is shown was ours to choose
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
    """Several MIG instances are listed rightly, though CUDA shows each process one of them."""
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
    """Whether an entry is the UUID, or the start of one, of a device that NVML lists."""
    return any(
        is_named(entry, gpu, instance)
        for gpu in instances.ours(observation)
        for instance in (None, *gpu.mig_instances)
    ) or any(
        uuid.startswith(entry) for gpu in instances.ours(observation) for uuid in gpu.mig_uuids
    )


def counts_agree(observation: Observation) -> Finding:
    """All of torch, driver and NVML see the same devices, but for narrowing, MIG and other jobs."""
    check = "cuda_available.counts_agree"
    count, driver = observation.framework.device_count, observation.driver.device_count
    if observation.framework.cuda is None or observation.driver.init_code != 0:
        return skipped(check, "no CUDA driver that could be counted with")
    ours = instances.ours(observation)
    sliced = any(gpu.mig_enabled for gpu in ours)
    most = sum(max(1, len(gpu.mig_uuids)) for gpu in ours)
    told = not observation.nvml.error
    narrowed = hides(observation) is not None or sliced
    agree = driver is not None and count == driver
    # The server of MPS decides which GPUs its clients see, and may divide one among them.
    if told and driver is not None and not by_mps(observation):
        agree = agree and (driver <= most if narrowed else driver == len(ours))
    counts = f"torch {count}, driver {driver}, NVML {len(ours) if told else 'unknown'}"
    lost = [f"GPU {gpu.index} {gpu.error}" for gpu in ours if gpu.error]
    return require(
        check,
        agree,
        counts,
        "one number",
        message=f"the number of devices differs: {counts}" + "".join(f"; {text}" for text in lost),
        hint="compare `nvidia-smi -L` with `lspci -d 10de:` and `dmesg | grep -i xid`; drain the "
        "node when a GPU is gone",
    )
