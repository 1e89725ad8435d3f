"""The device nodes that a GPU's driver needs, each opened once, as a job would."""

import errno
import os
from pathlib import Path

from probes.contract import Frozen


class Node(Frozen):
    """A device node that was opened for reading and writing; `problem` is empty when it opened."""

    path: str
    problem: str = ""  # EPERM: Operation not permitted


def open_nodes(vendors: tuple[str, ...], folder: Path = Path("/dev")) -> tuple[Node, ...]:
    """The device nodes that the vendors' drivers need, each opened once, missing ones included."""
    paths: list[Path] = []
    if "nvidia" in vendors and list(folder.glob("nvidia*")):
        gpus = [path for path in folder.glob("nvidia*") if path.name[len("nvidia") :].isdigit()]
        paths += [folder / "nvidiactl", *sorted(gpus)]
        # Jetson's driver has no node for unified memory.
        if (folder / "nvidia-uvm").exists() or not (folder / "nvhost-gpu").exists():
            paths.insert(1, folder / "nvidia-uvm")
    if "amd" in vendors:
        paths += [folder / "kfd"]
    if "amd" in vendors or "intel" in vendors:
        paths += sorted(folder.glob("dri/renderD*"))
    return tuple(Node(path=str(path), problem=_open_error(path)) for path in paths)


def _open_error(path: Path) -> str:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return f"{errno.errorcode.get(error.errno or 0, error.errno)}: {error.strerror}"
    return ""
