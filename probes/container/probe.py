"""What surrounds a job on this machine, and the findings about it."""

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import Field

from probes import contract
from probes.container.spec import SPEC, Limits
from probes.contract import MIB, Finding, require, skipped
from probes.kit import breadcrumb
from probes.legible import variables
from probes.node import containers, device_nodes, hardware, resources

__all__ = ["Limits", "Observation", "judge", "observe"]

VARIABLES: Final = ("NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES")
_INFINIBAND: Final = Path("/dev/infiniband")
_SHARED: Final = "/dev/shm"  # noqa: S108 - where torch puts what processes share
_YEAR_S: Final = 365 * 86400
#: 2021-10-04, when Python 3.10 appeared: no time before it is one of this installation.
_OLDEST_S: Final = 1633305600.0


class Observation(contract.Observation):
    """Devices, limits and room, as this process sees them; sizes in bytes, times since 1970."""

    hardware: hardware.Hardware
    container: containers.Container
    variables: dict[str, str] = Field(default_factory=dict)
    nodes: tuple[device_nodes.Node, ...] = ()
    infiniband: bool = False
    shared_memory: resources.Space
    caches: tuple[resources.Space, ...] = ()
    limits: dict[str, int | None] = Field(default_factory=dict)
    locks_without_limit: bool = False
    group: resources.Group = resources.Group()
    cores: int = 1  # that the affinity allows
    now_s: float
    newest_file_s: float  # of the interpreter and of this package


def has_infiniband() -> bool:
    """Whether an RDMA device is given to this process; any host with the driver has the folder."""
    return any(_INFINIBAND.glob("uverbs*"))


def now() -> float:
    """Seconds since 1970, by the clock of the system."""
    return time.time()


def observe(device: str) -> Observation:  # noqa: ARG001 - it is about the host
    """Read what surrounds this process; each device node is opened once."""
    detected = hardware.detect()
    breadcrumb.operation("device nodes")
    nodes = device_nodes.open_nodes(detected.vendors)
    breadcrumb.operation("file systems")
    files = (sys.executable or "", contract.__file__)
    return Observation(
        hardware=detected,
        container=containers.read(os.environ),
        variables=variables(VARIABLES),
        nodes=nodes,
        infiniband=has_infiniband(),
        shared_memory=resources.space(_SHARED, made=True),
        caches=resources.caches(os.environ),
        limits=resources.limits(),
        locks_without_limit=resources.locks_without_limit(),
        group=resources.group(),
        cores=len(os.sched_getaffinity(0)),
        now_s=now(),
        newest_file_s=max((_changed_s(file) for file in files), default=0.0),
    )


def _changed_s(file: str) -> float:
    try:
        return Path(file).stat().st_mtime
    except OSError:  # replaced meanwhile, or not to be seen
        return 0.0


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield the findings: a failure only where a promised GPU has no device node."""
    yield _device_nodes(observation, limits)
    yield _driver_capabilities(observation)
    yield _shared_memory(observation, limits)
    yield _open_files(observation, limits)
    yield _locked_memory(observation)
    yield _address_space(observation, limits)
    yield _memory(observation, limits)
    yield _cores(observation, limits)
    yield _clock(observation)
    yield _caches(observation, limits)


def _id(check: str) -> str:
    return f"{SPEC.name}.{check}"


#: Device nodes by which a system of one GPU type shows it in another way.
_OTHER_NODES: Final = ("/dev/dxg", "/dev/nvhost-gpu")


def _device_nodes(observation: Observation, limits: Limits) -> Finding:
    """A node that cannot be opened says that access was lost, not that the GPU is bad."""
    check = _id("device_nodes")
    vendors = observation.hardware.vendors
    promised = limits.gpus if isinstance(limits.gpus, int) else 0
    if not vendors:
        return skipped(check, "no GPU of a known vendor is here")
    if any(text.startswith(_OTHER_NODES) for text in observation.hardware.evidence):
        return skipped(check, "the GPU here is reached without device nodes of its own")
    present = [node for node in observation.nodes if not node.problem.startswith("ENOENT")]
    if not present:
        if not promised:
            return skipped(check, "no GPU is given to this process: it has no device node")
        return Finding(
            id=check,
            status="fail",
            message=f"{promised} GPUs are promised, and no device node of a GPU is here",
            observed=[],
            expected="device nodes",
            hint="`--gpus all` of docker run, a GPU in the pod's resources, `--nv` of Apptainer; "
            "look at what the container toolkit logs",
            action="recreate_container",
        )
    bad = [node for node in observation.nodes if not _is_no_matter(node, observation, promised)]
    problems = [f"{node.path}: {node.problem}" for node in bad]
    lost = any(not node.problem.startswith("ENOENT") for node in bad)
    refused = any(node.problem.startswith(_REFUSED) for node in bad)
    return require(
        check,
        not problems,
        [*problems],
        "every node opens that this process was given",
        message="; ".join(problems),
        hint="missing: `nvidia-modprobe -u -c=0` on the host, and recreate the container; refused: "
        "a reload of systemd takes devices away, so recreate the container, and see that the "
        "toolkit uses CDI or cgroupfs; for AMD and Intel: the groups `render` and `video`; another "
        "error: `dmesg | tail` says why the driver could not start the GPU",
        action="recreate_container" if refused or not lost else "investigate",
        otherwise="error" if lost else "warn",
    )


_REFUSED: Final = ("EPERM", "EACCES")
_OF_A_GPU: Final = re.compile(r"/(nvidia|dri/renderD)\d+$")


def _is_no_matter(node: device_nodes.Node, observation: Observation, promised: int) -> bool:
    """Whether a node opens, or need not: of another job's GPU, or made by the driver when used."""
    if not node.problem:
        return True
    if node.problem.startswith("ENOENT"):  # a setuid program of the driver's makes it on a host
        return not observation.container.kind and node.path.endswith("/nvidia-uvm")
    opened = [each.path for each in observation.nodes if not each.problem]
    own = sum(_OF_A_GPU.search(path) is not None for path in opened)
    return (
        node.problem.startswith(_REFUSED)
        and _OF_A_GPU.search(node.path) is not None
        and own >= max(promised, 1)
    )


def _driver_capabilities(observation: Observation) -> Finding:
    check, name = _id("driver_capabilities"), "NVIDIA_DRIVER_CAPABILITIES"
    value = observation.variables.get(name)
    if "nvidia" not in observation.hardware.vendors or not value:
        return skipped(check, f"{name} is not set, or no GPU of NVIDIA's is here")
    if not observation.container.kind:
        return skipped(check, "no toolkit reads it here: this is no container")
    asked = {part.strip() for part in value.split(",")}
    missing = sorted({"compute", "utility"} - asked) if "all" not in asked else []
    return require(
        check,
        not missing,
        value,
        "compute,utility",
        message=f"{name} is {value}, without {' and '.join(missing)}: no libcuda, or no NVML",
        hint=f"{name}=compute,utility in the image or the pod",
        action="fix_config",
        otherwise="warn",
    )


def _mib(count: int | None) -> str:
    return "no limit" if count is None else f"{count // MIB} MiB"


def _shared_memory(observation: Observation, limits: Limits) -> Finding:
    place, least = observation.shared_memory, limits.shared_memory_bytes
    text = place.problem
    if not text and place.size_bytes is not None and place.size_bytes < least:
        text = f"has {_mib(place.size_bytes)}, less than {_mib(least)}"
    # A quarter of what is wanted must be left, too: others may have filled it.
    if not text and place.free_bytes is not None and place.free_bytes < least // 4:
        text = f"is nearly full: {_mib(place.free_bytes)} free of {_mib(place.size_bytes)}"
    return require(
        _id("shared_memory"),
        not text,
        place.model_dump(mode="json", exclude_defaults=True),
        f"{_mib(least)}, a quarter of it free",
        message=f"{place.folder}: {text}",
        hint="`--shm-size=8g` or `--ipc=host` of docker run, an emptyDir with `medium: Memory` on "
        "/dev/shm; full: remove what ended jobs have left there",
        action="fix_config",
        otherwise="warn",
    )


def _least(
    check: str, name: str, observation: Observation, least: int, *, hint: str, unit: str = ""
) -> Finding:
    """A soft limit of this process, which is a warning below `least`."""
    if name not in observation.limits:
        return skipped(_id(check), f"RLIMIT_{name} may not be read")
    value = observation.limits[name]
    return require(
        _id(check),
        value is None or value >= least,
        value,
        least,
        message=f"RLIMIT_{name} is {value}{unit}, less than {least}",
        hint=hint,
        action="fix_config",
        otherwise="warn",
    )


def _open_files(observation: Observation, limits: Limits) -> Finding:
    hint = "`--ulimit nofile=1048576` of docker run, LimitNOFILE of the unit, `ulimit -n`"
    return _least("open_files", "NOFILE", observation, limits.open_files, hint=hint)


def _address_space(observation: Observation, limits: Limits) -> Finding:
    hint = "`ulimit -v unlimited`; in Slurm VSizeFactor=0"
    return _least(
        "address_space", "AS", observation, limits.address_space_bytes, hint=hint, unit=" bytes"
    )


def _locked_memory(observation: Observation) -> Finding:
    check = _id("locked_memory")
    if not observation.infiniband:
        return skipped(check, "no InfiniBand is here, and nothing else needs locked memory")
    if "MEMLOCK" not in observation.limits:
        return skipped(check, "RLIMIT_MEMLOCK may not be read")
    value = observation.limits["MEMLOCK"]
    return require(
        check,
        value is None or observation.locks_without_limit,
        value,
        "no limit",
        message=f"RLIMIT_MEMLOCK is {value} bytes, and RDMA registers whole buffers",
        hint="`--ulimit memlock=-1` of docker run, LimitMEMLOCK=infinity of the unit (of "
        "containerd's, in Kubernetes), or the capability IPC_LOCK",
        action="fix_config",
        otherwise="warn",
    )


def _memory(observation: Observation, limits: Limits) -> Finding:
    allowed, used = observation.group.memory_bytes, observation.group.memory_used_bytes or 0
    text = ""
    if allowed is not None and allowed < limits.memory_bytes:
        text = f"the control group allows {_mib(allowed)} of memory"
    return require(
        _id("memory"),
        not text,
        {"limit": allowed, "used": used},
        f"{_mib(limits.memory_bytes)} or more",
        message=text,
        hint="raise the memory limit of the container or the job",
        action="fix_config",
        otherwise="warn",
    )


def _cores(observation: Observation, limits: Limits) -> Finding:
    quota = observation.group.cores
    return require(
        _id("cores"),
        quota is None or quota >= limits.cores,
        {"quota": quota, "affinity": observation.cores},
        f"{limits.cores:g} or more",
        message=f"the control group's quota is {quota} cores",
        hint="raise the CPU limit of the container or the job",
        action="fix_config",
        otherwise="warn",
    )


def _clock(observation: Observation) -> Finding:
    # Files of a reproducible image have a time of their own choice, which is long ago.
    installed_s = max(observation.newest_file_s, _OLDEST_S)
    behind_s = installed_s - observation.now_s
    ahead_s = observation.now_s - installed_s
    # A day for the zone of whoever wrote the files; no release is used for thirty years.
    text = ""
    if behind_s > _YEAR_S / 365:
        text = f"the clock is {behind_s / 86400:.0f} days behind the files of this installation"
    elif ahead_s > 30 * _YEAR_S:
        text = f"the clock is {ahead_s / _YEAR_S:.0f} years ahead of this installation"
    return require(
        _id("clock"),
        not text,
        round(observation.now_s),
        "a time after this installation, and not long after",
        message=text,
        hint="set the clock: `timedatectl`, `chronyc tracking`; certificates and logs depend on it",
        action="fix_config",
        otherwise="warn",
    )


def _caches(observation: Observation, limits: Limits) -> Finding:
    usable = [place for place in observation.caches if not place.problem]
    full = [
        f"{place.folder} has {_mib(place.free_bytes)} free"
        for place in usable
        if place.free_bytes is not None and place.free_bytes < limits.cache_bytes
    ]
    full += [f"{place.folder} has no free file" for place in usable if place.free_files == 0]
    text = "; ".join(full)
    if observation.caches and not usable:
        text = "; ".join(f"{place.folder}: {place.problem}" for place in observation.caches)
    return require(
        _id("caches"),
        not text,
        [place.folder for place in usable],
        f"{_mib(limits.cache_bytes)} free, in a folder that may be written to",
        message=text,
        hint="free the disk, or set TMPDIR, XDG_CACHE_HOME and CUDA_CACHE_PATH to a folder with "
        "room; without one every start compiles anew",
        action="fix_config",
        otherwise="warn",
    )
