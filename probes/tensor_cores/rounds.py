"""The rounds: each unit alone and crowded, beside others, heated, and then once more."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.tensor_cores.machine import Launch, Machine
from probes.tensor_cores.observation import Coverage
from probes.tensor_cores.tally import Tally, planted_comparison

#: Rounds of each unit in each context before it is heated, and as many after.
ROUNDS: Final = 3

#: Passes of one launch, and of one that heats: some milliseconds.
_PASSES: Final = 8
_HEATING_PASSES: Final = 512

#: Blocks a multiprocessor and warps a block: one warp a sub-partition, or as many as there is room.
_ALONE: Final = (1, 4)
_CROWDED: Final = (8, 8)

#: Further launches for places that were not seen yet, each with twice as many blocks.
_TRIES: Final = 4


class GaveWayError(Exception):
    """Somebody else came to the device; the text says who."""


class Rounds:
    """A machine, and what was seen on it so far."""

    def __init__(self, machine: Machine, names: Sequence[str], others: Callable[[], str]) -> None:
        """Take the machine.

        Args:
            machine: what runs the launches.
            names: the units that are run; others are left out.
            others: is asked before each launch who came to the device since.
        """
        self.tally = Tally(machine.units)
        self.planted: list[Comparison] = []
        self._machine, self._others = machine, others
        self._kinds = {
            unit.name: kind for kind, unit in enumerate(machine.units) if unit.name in names
        }
        self._all = tuple(self._kinds.values())
        self._tries = 0
        self._heated_s = 0.0
        self._began_s = time.monotonic()

    def run(self) -> None:
        """Run all of them.

        Raises:
            GaveWayError: somebody came.
        """
        if not self._all:
            return
        self._each("cold")
        self._heat()
        self._each("hot")
        self._cover()

    def plant(self) -> None:
        """Run each unit, all where none is run, with an operand that is changed on purpose.

        Raises:
            GaveWayError: somebody came.
        """
        breadcrumb.check("planted")
        for kind in self._all or range(len(self._machine.units)):
            launch = self._launch((kind,), _ALONE, planted=True)
            self._look()
            answers = self._machine.run(launch)
            unit = self._machine.units[kind]
            self.planted.append(planted_comparison(unit, kind, launch, answers))

    def coverage(self) -> Coverage:
        """How much was tested."""
        count = self._machine.multiprocessors
        return Coverage(
            multiprocessors=count,
            units={name: self.tally.of[name].covered(count) for name in self._kinds},
            rounds=self.tally.rounds,
            tries=self._tries,
            heated_s=self._heated_s,
            took_s=time.monotonic() - self._began_s,
        )

    def _each(self, phase: str) -> None:
        """Each unit in rounds, alone and crowded, then all beside each other."""
        for name, kind in self._kinds.items():
            breadcrumb.check(name)
            for _ in range(ROUNDS):
                self._run(self._launch((kind,), _ALONE), "alone", phase)
                self._run(self._launch((kind,), _CROWDED), "crowded", phase)
        breadcrumb.check("")
        for shift in range(ROUNDS):
            self._run(self._launch(self._all, _CROWDED, shift=shift), "mixed", phase)

    def _heat(self) -> None:
        """Long launches until the time is over; their answers count too."""
        began_s = time.monotonic()
        turns = [self._all, *((kind,) for kind in self._all)]
        turn = 0
        while self._heated_s < self._machine.heat_s:
            kinds = turns[turn % len(turns)]
            launch = self._launch(kinds, _CROWDED, passes=_HEATING_PASSES)
            self._run(launch, "long", "heating")
            turn += 1
            self._heated_s = time.monotonic() - began_s

    def _cover(self) -> None:
        """More blocks for units that some place has not run yet."""
        count = self._machine.multiprocessors
        blocks, warps = _CROWDED
        for turn in range(1, _TRIES + 1):
            missing = {
                name: kind
                for name, kind in self._kinds.items()
                if not self.tally.of[name].covered(count).whole(count)
            }
            if not missing:
                return
            self._tries += 1
            for name, kind in missing.items():
                breadcrumb.check(name)
                self._run(self._launch((kind,), (blocks << turn, warps)), "crowded", "hot")
        breadcrumb.check("")

    def _launch(
        self,
        kinds: tuple[int, ...],
        shape: tuple[int, int],
        *,
        passes: int = _PASSES,
        shift: int = 0,
        planted: bool = False,
    ) -> Launch:
        """A launch of that shape on every multiprocessor."""
        blocks, warps = shape
        return Launch(kinds, blocks * self._machine.multiprocessors, warps, passes, shift, planted)

    def _run(self, launch: Launch, context: str, phase: str) -> None:
        self._look()
        self.tally.add(launch, self._machine.run(launch), context, phase)

    def _look(self) -> None:
        if who := self._others():
            raise GaveWayError(who)
