"""The NVIDIA GPUs that the PCI bus shows, each with its driver: told without asking any driver.

A GPU that fell off the bus stays listed here until the bus is scanned again, and sysfs goes on
telling what the kernel once read of it; only its configuration space then reads as ones alone.

Ref: https://docs.kernel.org/PCI/sysfs-pci.html
"""

import re
from pathlib import Path
from typing import Final

from probes.contract import Frozen
from probes.node.hardware import GIVEN_AWAY, is_gpu, number_in, text_of

_NVIDIA: Final = 0x10DE
_GONE: Final = b"\xff\xff\xff\xff"  # vendor and device of a function that no longer answers


class PciGpu(Frozen):
    """One GPU. `minor` is the N of /dev/nvidiaN, told by the driver's folder in /proc."""

    address: str  # as sysfs spells it, 0000:0f:00.0
    model: int  # the PCI device id
    driver: str | None = None  # of the kernel: nvidia, vfio-pci, nouveau; None: no driver took it
    minor: int | None = None
    excluded: bool = False  # the driver was told to leave it alone (NVreg_ExcludedGpus)
    answers: bool = True  # on the bus

    @property
    def given_away(self) -> bool:
        """Whether a virtual machine has it, so that nothing here can use it."""
        return self.driver in GIVEN_AWAY


def read(root: Path = Path("/")) -> tuple[PciGpu, ...]:
    """The GPUs in order of their address; virtual functions of our own are left out."""
    return tuple(
        _gpu(root, folder)
        for folder in sorted(root.glob("sys/bus/pci/devices/*"))
        if number_in(folder / "vendor") == _NVIDIA
        and is_gpu("nvidia", number_in(folder / "class") >> 8, number_in(folder / "device"))
        and not (folder / "physfn").exists()
    )


def _gpu(root: Path, folder: Path) -> PciGpu:
    driver = folder / "driver"
    told = text_of(root / "proc/driver/nvidia/gpus" / folder.name / "information")
    minor = re.search(r"^Device Minor:\s*(\d+)\s*$", told, re.MULTILINE)
    excluded = re.search(r"^GPU Excluded:\s*Yes\s*$", told, re.MULTILINE)
    return PciGpu(
        address=folder.name,
        model=number_in(folder / "device"),
        driver=driver.resolve().name if driver.exists() else None,
        minor=None if minor is None else int(minor[1]),
        excluded=excluded is not None,
        answers=_answers(folder / "config"),
    )


def _answers(config: Path) -> bool:
    """Whether its configuration space can still be read; where it is hidden, we take it so."""
    try:
        with config.open("rb") as stream:
            return stream.read(len(_GONE)) != _GONE
    except OSError:  # hidden from this container
        return True
