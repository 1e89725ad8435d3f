"""Units of a GPU that answer wrong, or are never reached.

On a device without our kernels a small GPU is pretended, whose units answer what the host computes;
on one with them the kernel's own answers are changed.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from probes.faults.inject.replaced import replace
from probes.kit.kernels import Unavailable
from probes.tensor_cores import machine
from probes.tensor_cores.machine import Answers, Launch, Machine
from probes.tensor_cores.problems import planted, problem
from probes.tensor_cores.units import NAMES, Unit, lacking, units_of

#: The pretended GPU: with fp8, so that every check has something to judge.
_CAPABILITY: Final = (12, 0)
_MULTIPROCESSORS: Final = 6
_HEAT_S: Final = 0.05

#: The multiprocessors that are bad, and a sub-partition of each.
BAD: Final = 3
ALSO_BAD: Final = 5
PARTITION: Final = 2
_BIT: Final = 17

_SLOTS: Final = 64

#: A launch of more passes heats.
_SHORT: Final = 64


class Pretended:
    """A sound GPU: blocks go to its multiprocessors in turn, warps to slots in turn."""

    multiprocessors: int = _MULTIPROCESSORS
    heat_s: float = _HEAT_S

    def __init__(self, capability: tuple[int, int] = _CAPABILITY) -> None:
        """Take the units of that compute capability."""
        self.units: tuple[Unit, ...] = units_of(capability)
        there = {unit.name for unit in self.units}
        self.absent = {name: lacking(name, capability) for name in NAMES if name not in there}

    def run(self, launch: Launch) -> Answers:
        """Answer what the host has computed."""
        kinds = launch.kinds_of_warps()
        given = [(planted if launch.planted else problem)(unit) for unit in self.units]
        digests = np.stack([each.digests(launch.passes) for each in given])
        masks = np.stack([each.masks for each in given])
        warps = np.arange(len(kinds))
        block = warps // launch.warps
        slot = (block // self.multiprocessors * launch.warps + warps % launch.warps) % _SLOTS
        places = (block % self.multiprocessors << 16 | slot).astype(np.uint32)
        return Answers(np.stack([places, places], axis=1), digests[kinds], masks[kinds])


#: Changes the answers of one launch.
Change = Callable[[Machine, Launch, Answers], Answers]


class _Changed:
    """A machine whose answers are changed."""

    def __init__(self, inner: Any, change: Change) -> None:
        self._inner, self._change = inner, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, launch: Launch) -> Answers:
        return self._change(self._inner, launch, self._inner.run(launch))


def _answering(change: Change) -> None:
    """Change the answers of whatever machine is there."""

    def make(choose: Any) -> Any:
        def chosen(device: str) -> Any:
            try:
                found = choose(device)
            except Unavailable:
                found = Pretended()
            return _Changed(found, change)

        return chosen

    replace(machine, "choose", make)


def wrong(
    unit: str,
    *,
    multiprocessors: tuple[int, ...] = (BAD,),
    partitions: tuple[int, ...] = (PARTITION,),
    when: str = "always",
    every: int = 1,
) -> None:
    """A bit of one lane is wrong in a type.

    Args:
        unit: the type's check.
        multiprocessors: where; empty stands for all.
        partitions: which sub-partitions of them; empty stands for all.
        when: `always`, `hot` (from the first long launch on), `crowded` (more than four warps a
            multiprocessor) or `mixed` (beside other types).
        every: in one of so many launches that run the type there.
    """
    heated: list[Launch] = []
    met: list[Launch] = []

    def change(found: Machine, launch: Launch, answers: Answers) -> Answers:
        if launch.passes > _SHORT:
            heated.append(launch)
        crowded = launch.blocks > found.multiprocessors
        applies = {
            "always": True,
            "hot": bool(heated),
            "crowded": crowded,
            "mixed": len(launch.kinds) > 1,
        }[when]
        names = np.array([each.name for each in found.units])
        if launch.planted or not applies or unit not in names[list(launch.kinds)]:
            return answers
        multiprocessor, slot = answers.places[:, 0] >> 16, answers.places[:, 0] & 0xFFFF
        bad = names[launch.kinds_of_warps()] == unit
        if multiprocessors:
            bad &= np.isin(multiprocessor, multiprocessors)
        if partitions:
            bad &= np.isin(slot % 4, partitions)
        met.extend([launch] * bool(bad.any()))
        if len(met) % every:
            return answers
        digests, masks = answers.digests.copy(), answers.masks.copy()
        digests[bad, 9] ^= np.uint64(1 << _BIT)
        masks[bad, 9] |= np.uint64(1 << _BIT)
        return Answers(answers.places, digests, masks)

    _answering(change)


def unseen(partitions: tuple[int, ...] = ()) -> None:
    """A multiprocessor, or some sub-partitions of it, never gets a warp: another one runs it."""

    def change(_: Machine, __: Launch, answers: Answers) -> Answers:
        places = answers.places.copy()
        bad = places[:, 0] >> 16 == BAD
        if partitions:
            bad &= np.isin(places[:, 0] & 0xFFFF & 3, partitions)
            places[bad] ^= np.uint32(1)
        else:
            places[bad] -= np.uint32(1 << 16)
        return Answers(places, answers.digests, answers.masks)

    _answering(change)


def silent() -> None:
    """Warps of one multiprocessor write nothing: their memory holds what it held."""

    def change(_: Machine, __: Launch, answers: Answers) -> Answers:
        bad = answers.places[:, 0] >> 16 == BAD
        ones = np.uint64(2**64 - 1)
        return Answers(
            np.where(bad[:, None], np.uint32(machine.UNWRITTEN), answers.places),
            np.where(bad[:, None], ones, answers.digests),
            np.where(bad[:, None], ones, answers.masks),
        )

    _answering(change)


def blind() -> None:
    """Answers are right whatever the operands are."""

    def change(found: Machine, launch: Launch, answers: Answers) -> Answers:
        if not launch.planted:
            return answers
        right = np.stack([problem(unit).digests(launch.passes) for unit in found.units])
        kinds = launch.kinds_of_warps()
        return Answers(answers.places, right[kinds], np.zeros_like(answers.masks))

    _answering(change)
