"""The NVIDIA GPUs on the PCI bus and their kernel drivers, read from sysfs and procfs only.

A GPU that fell off the bus stays listed until the bus is scanned again, with the values that the
kernel read before; but its configuration space then reads as all ones.

Ref: https://docs.kernel.org/PCI/sysfs-pci.html
"""

import re
from pathlib import Path
from typing import Final

from probes.contract import Frozen
from probes.node.hardware import GIVEN_AWAY, file_text, is_gpu, sysfs_number

_NVIDIA: Final = 0x10DE
_GONE: Final = b"\xff\xff\xff\xff"  # vendor and device id of a function that no longer answers


class PciGpu(Frozen):
    """One GPU. `minor` is the N of /dev/nvidiaN, from the driver's folder in /proc."""

    address: str  # as sysfs spells it, 0000:0f:00.0
    model: int  # the PCI device id
    driver: str | None = None  # kernel driver: nvidia, vfio-pci, nouveau; None: no driver
    minor: int | None = None
    excluded: bool = False  # excluded by a setting of the driver (NVreg_ExcludedGpus)
    answers: bool = True  # responds on the bus

    @property
    def given_away(self) -> bool:
        """Whether it is reserved for a virtual machine, so that nothing here can use it."""
        return self.driver in GIVEN_AWAY


def read(root: Path = Path("/")) -> tuple[PciGpu, ...]:
    """The GPUs in order of their address, without virtual functions created here."""
    return tuple(
        _gpu(root, folder)
        for folder in sorted(root.glob("sys/bus/pci/devices/*"))
        if sysfs_number(folder / "vendor") == _NVIDIA
        and is_gpu("nvidia", sysfs_number(folder / "class") >> 8, sysfs_number(folder / "device"))
        and not (folder / "physfn").exists()
    )


def _gpu(root: Path, folder: Path) -> PciGpu:
    driver = folder / "driver"
    information = file_text(root / "proc/driver/nvidia/gpus" / folder.name / "information")
    minor = re.search(r"^Device Minor:\s*(\d+)\s*$", information, re.MULTILINE)
    excluded = re.search(r"^GPU Excluded:\s*Yes\s*$", information, re.MULTILINE)
    return PciGpu(
        address=folder.name,
        model=sysfs_number(folder / "device"),
        driver=driver.resolve().name if driver.exists() else None,
        minor=None if minor is None else int(minor[1]),
        excluded=excluded is not None,
        answers=_answers(folder / "config"),
    )


def _answers(config: Path) -> bool:
    """Whether the GPU's configuration space is readable; True if the file is hidden."""
    try:
        with config.open("rb") as stream:
            return stream.read(len(_GONE)) != _GONE
    except OSError:  # hidden from this container
        return True
