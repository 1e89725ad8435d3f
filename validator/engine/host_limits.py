"""Limits of the host that end a probe, told by what they leave behind: never the machine's fault.

Each kind of limit is known by texts that it alone leaves, or by an end that others share and that
is put down to it only while such a limit is in force. Workers and children inherit the limits of
this process, so they are read here.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from validator.engine import limits_in_force as in_force


class _Kind(NamedTuple):
    """One kind of limit."""

    what: str  # what could not be had, or happened
    limits: Callable[[], list[str]]  # those in force, each with its value
    hint: str
    #: A text that this kind alone leaves.
    certain: str = r"(?!)"
    #: A text that it leaves too; it tells only while `limits` names one that is tight.
    possible: str = r"(?!)"


class Refusal(NamedTuple):
    """What the host refused, by which limits of which values, and what raises them."""

    what: str
    limits: tuple[str, ...]
    hint: str

    def __str__(self) -> str:
        return f"{self.what} ({'; '.join(self.limits)})" if self.limits else self.what


_DIED: Final = r"\bdied by "

#: CUDA reserves as much address space as there is memory, and calls a refusal the same. The null
#: pointer is what pydantic, in Rust, makes of an object that had no room.
_NO_MEMORY: Final = (
    r"std::bad_alloc|\bMemoryError\b|PyObject pointer is null"
    r"|Cannot allocate memory|can't allocate memory|[Uu]nable to allocate"
    r"|failed to map segment|[Mm]emory allocation (still )?failed"
    r"|[Oo]ut of memory|CUDA_ERROR_OUT_OF_MEMORY"
)

_MORE_MEMORY: Final = (
    "raise the limit named here for the validator: `ulimit -v unlimited`, `ulimit -d unlimited`, "
    "`ulimit -s 8192`, VSizeFactor of Slurm, the container's memory limit"
)

_KINDS: Final = (
    _Kind(
        what="no thread or process could be started",
        limits=in_force.tasks,
        hint="raise the limit named here for the validator (`--pids-limit` of docker run, "
        "`podPidsLimit` of the kubelet, TasksMax= of the unit, `ulimit -u`); where clone3 is "
        "refused, update the container runtime and libseccomp, or allow clone3",
        certain=r"can't start new thread|pthread_create failed|[Tt]hread creation failed"
        r"|failed to create (a )?thread|OMP: Error #34|unable to allocate necessary resources for "
        r"OMP thread|Resource temporarily unavailable|BlockingIOError: \[Errno 11\]",
    ),
    _Kind(
        what="no file descriptor was left",
        limits=in_force.descriptors,
        hint="raise the limit for the validator: `ulimit -n`, LimitNOFILE= of the unit, "
        "`--ulimit nofile=` of docker run",
        certain=r"Too many open files",
    ),
    _Kind(
        what="a file system was full, or a file may not grow so large",
        limits=in_force.space,
        hint="make room (`df -h /dev/shm /tmp`): `--shm-size=1g` of docker run, an emptyDir with "
        "`medium: Memory` on /dev/shm, a larger or writable /tmp; `ulimit -f unlimited`",
        certain=r"No space left on device|Disk quota exceeded|File too large|\[Errno 30\]"
        rf"|No usable temporary directory|{_DIED}SIGXFSZ",
        possible=_DIED + "SIGBUS|killed by signal: Bus error",
    ),
    _Kind(
        what="the processor time that a process may use was over",
        limits=in_force.processor_time,
        hint="raise the limit for the validator: `ulimit -t unlimited`, LimitCPU= of the unit",
        certain=_DIED + "SIGXCPU",
        possible=_DIED + "SIGKILL",
    ),
    _Kind(
        what="a filter of system calls ended the process",
        limits=in_force.filters,
        hint="run the validator under the container runtime's default seccomp profile, or allow "
        "the call that `dmesg | grep -i seccomp` names",
        certain=_DIED + "SIGSYS",
    ),
    _Kind(
        what="a system call is missing or refused",
        limits=in_force.filters,
        hint="the validator needs Linux 5.3 or newer, /proc, and a container filter (seccomp) that "
        "allows what the runtime's default profile allows",
        certain=r"\[Errno 38\]|Function not implemented|\bneeds /proc\b",
        possible=r"\[Errno 1\]|Operation not permitted",
    ),
    _Kind(
        what="what the kernel tells below /proc or /sys could not be read",
        limits=list,  # the text names the file, or it is one of the two
        hint="let the validator read /proc of its own processes, /proc/cpuinfo and "
        "/sys/devices/system/cpu: look at what masks them (AppArmor or SELinux, hidepid, the "
        "container runtime)",
        # torch's library for the features of the CPU reads both, and says no more.
        certain=r"\[Errno (1|13)\] [^'\n]*: '/(proc|sys)/|Failed to initialize cpuinfo",
    ),
    _Kind(
        what="memory ran out",
        limits=list,  # the text names it
        hint="raise the memory limit of the validator's container, or leave it more of the host's "
        "memory: torch needs some 500 MiB without a GPU, and 2 GiB with one",
        certain=r"by the memory limit of this container|the host had no memory left",
    ),
    _Kind(
        what="somebody else ended a process that a probe had started",
        limits=list,
        hint="look at `dmesg | tail`, and at what ends processes here (the memory limit of this "
        "container, earlyoom, systemd-oomd, the batch system)",
        # The probe has tried the compiler, and then torch finds that it does not run, or it says
        # nothing. One that crashes says so.
        certain=r"\bKilledByOthersError\b|\bInvalidCxxCompiler\b|C\+\+ compile error$"
        r"|\b(Killed|Terminated|Hangup|Quit|Interrupt|User defined signal \d|CPU time limit "
        r"exceeded) signal terminated program\b",
    ),
    _Kind(
        what="no memory could be had",
        limits=in_force.address_space,
        hint=_MORE_MEMORY,
        possible=rf"{_NO_MEMORY}|{_DIED}SIG(SEGV|ABRT|BUS)|no result within|did not end within"
        r"|exited with code",
    ),
    _Kind(
        what="no memory could be had, as a rule",
        limits=in_force.little_address_space,
        hint=_MORE_MEMORY,
        possible=r"\b\w*Error\b",  # oneDNN says `could not create a primitive`, others less
    ),
)


def refusal(text: str) -> Refusal | None:
    """What the host refused, where a text shows that: of an exception, an end, or a log."""
    for kind in _KINDS:
        if re.search(kind.certain, text):
            return Refusal(kind.what, tuple(kind.limits()), kind.hint)
    for kind in _KINDS:
        if re.search(kind.possible, text) and (limits := kind.limits()):
            return Refusal(kind.what, tuple(limits), kind.hint)
    return None


def memory_was_short(text: str) -> bool:
    """Whether an exception tells of memory, and no limit that is in force explains it.

    It may have been one that is gone, of the worker alone, or a host that was full for a moment.
    """
    return re.search(_NO_MEMORY, text) is not None and refusal(text) is None
