"""Whether the limits, the file systems and the clock leave a job what it needs."""

from typing import Final

from probes.container.observation import Observation
from probes.container.spec import SPEC, Limits
from probes.contract import MIB, Finding, require, skipped

_YEAR_S: Final = 365 * 86400
#: 2021-10-04, when Python 3.10 appeared: no time before it is one of this installation.
_OLDEST_S: Final = 1633305600.0


def _id(check: str) -> str:
    return f"{SPEC.name}.{check}"


def _mib(count: int | None) -> str:
    return "no limit" if count is None else f"{count // MIB} MiB"


def shared_memory(observation: Observation, limits: Limits) -> Finding:
    """Size and free space of /dev/shm, by which processes of a job share tensors."""
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


def open_files(observation: Observation, limits: Limits) -> Finding:
    """How many files a process may open."""
    hint = "`--ulimit nofile=1048576` of docker run, LimitNOFILE of the unit, `ulimit -n`"
    return _least("open_files", "NOFILE", observation, limits.open_files, hint=hint)


def address_space(observation: Observation, limits: Limits) -> Finding:
    """How much a process may map, which CUDA does generously."""
    hint = "`ulimit -v unlimited`; in Slurm VSizeFactor=0"
    return _least(
        "address_space", "AS", observation, limits.address_space_bytes, hint=hint, unit=" bytes"
    )


def locked_memory(observation: Observation) -> Finding:
    """Memory that may be locked, where RDMA registers buffers."""
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


def memory(observation: Observation, limits: Limits) -> Finding:
    """Memory that the control group allows."""
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


def cores(observation: Observation, limits: Limits) -> Finding:
    """Cores that the control group's quota allows."""
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


def clock(observation: Observation) -> Finding:
    """A clock that is neither before this installation nor long after."""
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


def caches(observation: Observation, limits: Limits) -> Finding:
    """Room and rights in the folders where compiled kernels are kept."""
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
