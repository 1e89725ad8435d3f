"""What surrounds a job on this machine."""

import os
import sys
import time
from pathlib import Path
from typing import Final

from pydantic import Field

from probes import contract
from probes.kit import breadcrumb
from probes.legible import variables
from probes.node import containers, device_nodes, hardware, resources

VARIABLES: Final = ("NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES")
_INFINIBAND: Final = Path("/dev/infiniband")
_SHARED: Final = "/dev/shm"  # noqa: S108 - where torch puts what processes share


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
