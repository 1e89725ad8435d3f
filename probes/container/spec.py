"""The probe's cost, schedule, thresholds and checks. Does not import torch."""

from typing import Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from probes.contract import MIB, Frozen, ProbeSpec


class Limits(Frozen):
    """What a job needs of the container around it."""

    #: A number is a promise of GPUs; "auto" (or None) promises none.
    gpus: NonNegativeInt | Literal["auto"] | None = "auto"
    #: A smaller /dev/shm is a warning. Containers get 64 MiB unless they ask for more; where jobs
    #: with data loaders run in this container, set 1 GiB or more.
    shared_memory_bytes: NonNegativeInt = 64 * MIB
    #: Fewer open files are a warning; 1024 is the kernel's own soft limit.
    open_files: NonNegativeInt = 1024
    #: Less memory, by the control group, is a warning: what torch with CUDA takes to start.
    memory_bytes: NonNegativeInt = 2048 * MIB
    #: A quota of fewer cores is a warning.
    cores: NonNegativeFloat = 1.0
    #: Less free room for compiled kernels is a warning; a run of the probes keeps a few MiB.
    cache_bytes: NonNegativeInt = 16 * MIB
    #: Less address space is a warning: CUDA reserves addresses for all GPUs' memory.
    address_space_bytes: NonNegativeInt = 64 * 1024 * MIB


SPEC: Final = ProbeSpec(
    name="container",
    profile="instant",
    needs="host",
    # Without persistence mode the driver starts each GPU whose node is opened.
    timeout_s=60,
    interval_s=60,
    memory_bytes=0,
    limits=Limits,
    checks={
        "device_nodes": "the device nodes of the GPUs are there, and open for reading and writing",
        "driver_capabilities": "the container asked NVIDIA's toolkit for what computing needs",
        "shared_memory": "the shared memory of processes may be written to, and has room",
        "open_files": "a process may open enough files",
        "locked_memory": "where there is InfiniBand, memory may be locked without a limit",
        "address_space": "a process may map as much address space as CUDA reserves",
        "memory": "the control group leaves enough memory to start",
        "cores": "the control group's quota is a whole core at least",
        "clock": "the clock is not behind the files of this installation, nor far ahead",
        "caches": "there is room for what is compiled at first use, and a place to write it",
    },
    certain={"device_nodes": ()},
    needs_torch=False,
)
