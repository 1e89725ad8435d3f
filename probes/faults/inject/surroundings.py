"""Simulates a container on a GPU node: device nodes, limits, file systems and the clock."""

import os
import time
from collections.abc import Mapping
from typing import Any, Final

from probes.container import observation
from probes.node import containers, device_nodes, hardware, resources

_GIB: Final = 1024**3

#: What a sound container has.
SOUND: Final[dict[str, Any]] = {
    "nodes": {"/dev/nvidiactl": "", "/dev/nvidia-uvm": "", "/dev/nvidia0": ""},
    "evidence": ["PCI 0000:0f:00.0 is 10de:2330 of class 0302", "/dev/nvidia0 exists"],
    "variables": {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
    "infiniband": True,
    "shared_memory": {"size_bytes": 8 * _GIB, "free_bytes": 8 * _GIB},
    "cache": {"size_bytes": 100 * _GIB, "free_bytes": 50 * _GIB, "free_files": 10**6},
    "limits": {"NOFILE": 1048576, "NPROC": None, "MEMLOCK": None, "AS": None, "STACK": 8 << 20},
    "group": {"memory_bytes": 64 * _GIB, "memory_used_bytes": _GIB, "cores": 16.0},
    "clock_ahead_s": 0.0,
}


def edited(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The sound container with other values at some paths, as in `limits.NOFILE`.

    Raises:
        KeyError: a path does not exist, so the fault would change nothing.
    """
    node = {
        name: dict(value) if isinstance(value, dict) else value for name, value in SOUND.items()
    }
    for path, value in changes.items():
        name, _, key = path.partition(".")
        if key and (key in node[name] or name in {"shared_memory", "cache"}):
            node[name][key] = value
        elif not key and name in node:
            node[name] = value
        else:
            raise KeyError(path)
    return node


def pretends(changes: Mapping[str, Any]) -> None:
    """Make everything that the probe reads answer as that container does, with some changes."""
    node = edited(changes)
    present = hardware.Hardware(vendors=("nvidia",), evidence=tuple(node["evidence"]))
    nodes = tuple(
        device_nodes.Node(path=path, problem=text) for path, text in node["nodes"].items()
    )
    shared = resources.Space(folder="/dev/shm", **node["shared_memory"])  # noqa: S108 - a name
    cache = resources.Space(folder="/root/.cache", **node["cache"])
    group, now_s = resources.Group(**node["group"]), time.time() + node["clock_ahead_s"]
    hardware.detect = lambda *_: present
    device_nodes.open_nodes = lambda *_: nodes
    resources.space = lambda *_, **__: shared
    resources.locks_without_limit = lambda *_: False
    containers.read = lambda *_: containers.Container(kind="a container", toolkit=True)
    resources.caches = lambda *_: (cache,)
    resources.limits = lambda: dict(node["limits"])
    resources.group = lambda *_: group
    observation.has_infiniband = lambda: bool(node["infiniband"])
    observation.now = lambda: now_s
    for name in observation.VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(node["variables"])
