"""What must trip each check of this probe: a container that lacks something."""

from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection

_MIB: Final = 1024**2
_TOOLKIT: Final = "https://github.com/NVIDIA/nvidia-container-toolkit/issues/48"
_SPECIALIZED: Final = (
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/"
    "docker-specialized.html"
)
_SHARED: Final = "https://github.com/pytorch/pytorch/issues/5040"
_LIMITS: Final = "https://man7.org/linux/man-pages/man2/getrlimit.2.html"
_GROUPS: Final = "https://docs.kernel.org/admin-guide/cgroup-v2.html"
_CLOCK: Final = "https://man7.org/linux/man-pages/man7/time.7.html"
_RDMA: Final = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html"
_UNIFIED: Final = "https://github.com/pytorch/pytorch/issues/49327"


def _fault(name: str, check: str, event: Event, changes: dict[str, Any], **fields: Any) -> Fault:
    return Fault(
        name=f"container.{name}",
        kind="environment",
        where="host",
        event=event,
        inject=(Injection("surroundings.pretends", {"changes": changes}),),
        trips=(f"container.{check}",),
        **fields,
    )


_SMALL: Final = Event("a container's default of shared memory, filled", _SHARED)
_DISK: Final = Event("a disk that is full", _SPECIALIZED)

FAULTS: Final[tuple[Fault, ...]] = (
    _fault(
        "nodes_refused",
        "device_nodes",
        Event("a reload of systemd took the devices away", _TOOLKIT),
        {"nodes./dev/nvidia0": "EPERM: Operation not permitted"},
    ),
    _fault(
        "no_unified_memory",
        "device_nodes",
        Event("nvidia-uvm is missing", _UNIFIED),
        {"nodes./dev/nvidia-uvm": "ENOENT: No such file or directory"},
    ),
    _fault(
        "promised_gpu_without_nodes",
        "device_nodes",
        Event("a container that was started without its GPUs", _SPECIALIZED),
        {"nodes": {}, "evidence": ["PCI 0000:0f:00.0 is 10de:2330 of class 0302"]},
        promised_gpus=1,
    ),
    _fault(
        "utility_alone",
        "driver_capabilities",
        Event("a container that asked for `utility` alone", _SPECIALIZED),
        {"variables.NVIDIA_DRIVER_CAPABILITIES": "utility"},
    ),
    _fault("small_shared_memory", "shared_memory", _SMALL, {"shared_memory.size_bytes": _MIB}),
    _fault("full_shared_memory", "shared_memory", _SMALL, {"shared_memory.free_bytes": 4096}),
    _fault(
        "closed_shared_memory",
        "shared_memory",
        Event("shared memory that this user may not use", _SHARED),
        {"shared_memory.problem": "it is read-only"},
    ),
    _fault(
        "few_open_files",
        "open_files",
        Event("too few open files for data loaders", _LIMITS),
        {"limits.NOFILE": 256},
    ),
    _fault(
        "locked_memory",
        "locked_memory",
        Event("RDMA cannot register its buffers", _RDMA),
        {"limits.MEMLOCK": 65536},
    ),
    _fault(
        "address_space",
        "address_space",
        Event("a batch system that limits address space", _LIMITS),
        {"limits.AS": 16 * 1024 * _MIB},
    ),
    _fault(
        "little_memory",
        "memory",
        Event("a pod with little memory", _GROUPS),
        {"group.memory_bytes": 512 * _MIB},
    ),
    _fault("half_a_core", "cores", Event("a pod with half a core", _GROUPS), {"group.cores": 0.5}),
    _fault(
        "clock_behind",
        "clock",
        Event("a clock that a dead battery has reset", _CLOCK),
        {"clock_ahead_s": -40 * 365 * 86400.0},
    ),
    _fault(
        "clock_ahead",
        "clock",
        Event("a clock that was set wrong", _CLOCK),
        {"clock_ahead_s": 90 * 365 * 86400.0},
    ),
    _fault("full_disk", "caches", _DISK, {"cache.free_bytes": 4096}),
    _fault("no_free_files", "caches", _DISK, {"cache.free_files": 0}),
    _fault("no_cache", "caches", _DISK, {"cache.problem": "it is read-only"}),
)
