"""What runs the kernel, and tells where each warp was and what its lanes answered."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from probes.kit import kernels
from probes.kit.capabilities import back_end, capability
from probes.kit.kernels import Module, Unavailable, pointer, u32
from probes.tensor_cores.problems import Hashes, planted, problem
from probes.tensor_cores.source import KERNEL, source
from probes.tensor_cores.units import NAMES, Unit, lacking, units_of

#: How long the units are heated: a GPU is near its temperature under load after a second or two.
_HEAT_S: Final = 1.5

#: What no warp writes: such a place was left as it was.
UNWRITTEN: Final = 2**32 - 1


@dataclass(frozen=True)
class Launch:
    """Blocks of so many warps; warp w runs the unit `kinds[(w + shift) % len(kinds)]`."""

    kinds: tuple[int, ...]  # numbers of units
    blocks: int
    warps: int  # of a block
    passes: int
    shift: int = 0
    planted: bool = False  # with the operands that are changed on purpose

    def kinds_of_warps(self) -> npt.NDArray[np.int64]:
        """The number of the unit that each warp runs."""
        warps = np.arange(self.blocks * self.warps) + self.shift
        return np.asarray(self.kinds)[warps % len(self.kinds)]


class Answers(NamedTuple):
    """What the warps wrote."""

    places: npt.NDArray[np.uint32]  # (warps, 2): multiprocessor << 16 | slot, before and after
    digests: Hashes  # (warps, lanes)
    masks: Hashes  # (warps, lanes): bits of words that the device itself saw differ


class Machine(Protocol):
    """A GPU, or what stands for one."""

    @property
    def multiprocessors(self) -> int:
        """How many the device says that it has."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """What it has and the kernel runs."""

    @property
    def absent(self) -> dict[str, str]:
        """Names of other units, and why each is left out."""

    @property
    def heat_s(self) -> float:
        """How long the units are heated."""

    def run(self, launch: Launch) -> Answers:
        """Launch the kernel, and wait for its answers."""


class ByKernels:
    """The kernel on a device."""

    heat_s: float = _HEAT_S

    def __init__(
        self,
        module: Module,
        device: str,
        multiprocessors: int,
        units: tuple[Unit, ...],
        absent: dict[str, str],
    ) -> None:
        """Move the operands to the device."""
        self.multiprocessors, self.units, self.absent = multiprocessors, units, absent
        self._module, self._device = module, device
        sound, changed = (
            np.concatenate([each(unit).cells for unit in units]) for each in (problem, planted)
        )
        self._cells = self._moved(sound)
        self._planted = self._moved(changed)

    def run(self, launch: Launch) -> Answers:
        """Poison the buffers, launch, and copy them to the host."""
        warps = launch.blocks * launch.warps
        places = torch.full((warps, 2), -1, dtype=torch.int32, device=self._device)
        answers = torch.full((warps, 32, 2), -1, dtype=torch.int64, device=self._device)
        kinds = self._moved(np.array(launch.kinds, np.uint32))
        numbers = (len(launch.kinds), launch.shift, launch.passes)
        self._module.launch(
            KERNEL,
            blocks=launch.blocks,
            threads=32 * launch.warps,
            arguments=[
                *(pointer(self._planted if launch.planted else self._cells), pointer(kinds)),
                *map(u32, numbers),
                *(pointer(places), pointer(answers)),
            ],
        )
        words = answers.cpu().numpy().view(np.uint64)
        return Answers(places.cpu().numpy().view(np.uint32), words[:, :, 0], words[:, :, 1])

    def _moved(self, words: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(words.view(np.int32)).to(self._device)


def choose(device: str) -> Machine:
    """The machine of a device.

    Raises:
        Unavailable: kernels of our own cannot run there; the text says why.
    """
    compute = capability(device)
    if back_end(device) != "cuda" or compute is None:
        raise Unavailable(f"the {back_end(device)} back-end has no NVRTC")
    known = units_of(compute)
    if not known:
        raise Unavailable(lacking("", compute))
    module, units, refused = _loaded(known, device)
    there = {unit.name for unit in units}
    absent = {
        name: refused.get(name) or lacking(name, compute) for name in NAMES if name not in there
    }
    count = torch.cuda.get_device_properties(torch.device(device)).multi_processor_count
    return ByKernels(module, device, count, units, absent)


def _loaded(
    units: tuple[Unit, ...], device: str
) -> tuple[Module, tuple[Unit, ...], dict[str, str]]:
    """The kernel of all units, or of those that this NVRTC compiles; why not the others.

    Raises:
        Unavailable: it compiles none of them.
    """
    try:
        return kernels.load(source(units), device), units, {}
    except Unavailable:
        found = {unit.name: _refusal(unit, device) for unit in units}
        refused = {name: why for name, why in found.items() if why}
        left = tuple(unit for unit in units if unit.name not in refused)
        if not left or not refused:
            raise
        return kernels.load(source(left), device), left, refused


def _refusal(unit: Unit, device: str) -> str:
    """Why the kernel of one unit cannot run here; "" where it can."""
    try:
        kernels.load(source([unit]), device)
    except Unavailable as why:
        return str(why)
    return ""
