"""Whether this process runs in a container, and how its GPUs were assigned."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from probes.contract import Frozen

#: Files and variables that container engines create.
_FILES: Final = {
    "var/run/secrets/kubernetes.io": "a Kubernetes pod",
    "run/.containerenv": "a container",
    ".dockerenv": "a container",
    ".singularity.d": "a container",
    "run/systemd/container": "a container",
    "run/host/container-manager": "a container",
    "dev/lxd": "a container",
    "dev/incus": "a container",
}
_VARIABLES: Final = {
    "KUBERNETES_SERVICE_HOST": "a Kubernetes pod",
    "APPTAINER_CONTAINER": "a container",
    "SINGULARITY_CONTAINER": "a container",
    "container": "a container",
}


class Container(Frozen):
    """The container around this process. `kind` is empty on a bare host."""

    kind: str = ""
    #: NVIDIA's container toolkit mounted its folder over the driver's: then it has applied
    #: NVIDIA_VISIBLE_DEVICES, which otherwise may only come from the image.
    toolkit: bool = False
    #: GPUs were requested by mounts, not by variable (a strategy of NVIDIA's device plugin).
    by_mounts: bool = False


def read(environment: Mapping[str, str], root: Path = Path("/")) -> Container:
    """Detect the container from the file system under `root` and the environment."""
    # Path.exists raises where this user may not look.
    kinds = [kind for path, kind in _FILES.items() if os.path.exists(root / path)]  # noqa: PTH110
    kinds += [kind for name, kind in _VARIABLES.items() if environment.get(name)]
    mounts = _mounts(root)
    # Engines that leave no other sign: containerd alone, LXC.
    if not kinds and re.search(r" / / \S+(?: \S+)* - overlay | - fuse\.lxcfs ", mounts):
        kinds = ["a container"]
    return Container(
        kind="a Kubernetes pod" if "a Kubernetes pod" in kinds else next(iter(kinds), ""),
        toolkit=re.search(r" /proc/driver/nvidia ", mounts) is not None,
        by_mounts=os.path.exists(  # noqa: PTH110
            root / "var/run/nvidia-container-devices"
        ),
    )


def _mounts(root: Path) -> str:
    try:
        return (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no procfs here
        return ""
