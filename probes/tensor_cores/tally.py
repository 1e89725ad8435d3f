"""Holds the answers of launches against the host's, and counts by unit and place."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.tensor_cores.machine import UNWRITTEN, Answers, Launch
from probes.tensor_cores.observation import PARTITIONS, Covered, Wrong, WrongPlace
from probes.tensor_cores.problems import planted, problem
from probes.tensor_cores.units import Unit

#: Multiprocessors beyond that are none: what was written is garbage.
_MOST: Final = 4096

#: Places that are told one by one.
_KEPT: Final = 16

#: Of phases: their order in a finding.
PHASES: Final = ("cold", "heating", "hot")

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass
class _Place:
    """What one place did wrong with one unit."""

    slots: set[int] = field(default_factory=set)
    lanes: set[int] = field(default_factory=set)
    mask: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    contexts: dict[str, None] = field(default_factory=dict)
    first: bool = False
    moved: bool = False


@dataclass
class OfUnit:
    """Everything about one unit."""

    unit: Unit
    #: Phase -> rounds in which each place ran it; the last entry is for what is not known.
    ran: dict[str, Counts] = field(default_factory=dict)
    places: dict[int, _Place] = field(default_factory=dict)
    moved: int = 0
    elements: dict[str, int] = field(default_factory=dict)  # by context
    mismatches: dict[str, int] = field(default_factory=dict)
    samples: dict[str, dict[str, Any]] = field(default_factory=dict)  # the first wrong one

    def rounds(self) -> Counts:
        """Rounds in which each place ran it."""
        return sum(self.ran.values(), np.zeros(_MOST * PARTITIONS + 1, np.int64))

    def covered(self, multiprocessors: int) -> Covered:
        """How many places have run it, and the first of those that did not, where names tell."""
        ran: Mask = np.asarray(self.rounds()[:-1].reshape(_MOST, PARTITIONS) > 0)
        seen: Mask = np.asarray(ran.any(axis=1))
        missing: tuple[str, ...] = ()
        # The device counts its multiprocessors, and does not promise to number them without gaps.
        if not seen[multiprocessors:].any():
            lacking = np.argwhere(~ran[:multiprocessors])[:_KEPT]
            missing = tuple(f"SM {sm} sub-partition {part}" for sm, part in lacking.tolist())
        return Covered(
            multiprocessors=int(seen.sum()),
            partitions=int(ran.sum()),
            missing=missing,
            moved_warps=self.moved,
        )

    def wrong(self) -> Wrong | None:
        """Where it was wrong; None for nowhere."""
        if not self.places:
            return None
        ordered = sorted(self.places.items())
        return Wrong(
            count=len(ordered),
            of=int((self.rounds() > 0).sum()),
            multiprocessors=len({place // PARTITIONS for place, _ in ordered}),
            places=tuple(self._told(*each) for each in ordered[:_KEPT]),
        )

    def _told(self, number: int, place: _Place) -> WrongPlace:
        known = number < _MOST * PARTITIONS
        mask = place.mask if self.unit.bits == 64 else (place.mask | place.mask >> 32) % 2**32
        return WrongPlace(
            multiprocessor=number // PARTITIONS if known else -1,
            partition=number % PARTITIONS if known else -1,
            slots=tuple(sorted(place.slots)),
            lanes=tuple(sorted(place.lanes)),
            xor_mask=f"{mask:#0{2 + self.unit.bits // 4}x}",
            rounds={
                phase: (place.wrong.get(phase, 0), int(self.ran[phase][number]))
                for phase in PHASES
                if phase in self.ran
            },
            contexts=tuple(place.contexts),
            from_the_first=place.first,
            moved=place.moved,
        )

    def comparisons(self) -> tuple[Comparison, ...]:
        """One for each context: the digests of all lanes."""
        return tuple(
            Comparison(
                operation=context,
                elements=count,
                mismatches=self.mismatches.get(context, 0),
                **self.samples.get(context, {}),
            )
            for context, count in self.elements.items()
        )


class Tally:
    """What all launches have answered."""

    def __init__(self, units: tuple[Unit, ...]) -> None:
        """Start with nothing."""
        self._units = units
        self.of = {unit.name: OfUnit(unit) for unit in units}
        self.rounds = 0

    def add(self, launch: Launch, answers: Answers, context: str, phase: str) -> None:
        """Compare the answers of one launch."""
        self.rounds += 1
        kinds = launch.kinds_of_warps()
        places, moved = _numbers(answers.places)
        for kind in dict.fromkeys(launch.kinds):
            own = kinds == kind
            part = Answers(*(each[own] for each in answers))
            self._compare(self._units[kind], launch, part, places[own], moved[own], context, phase)

    def _compare(
        self,
        unit: Unit,
        launch: Launch,
        answers: Answers,
        places: Counts,
        moved: Mask,
        context: str,
        phase: str,
    ) -> None:
        tally = self.of[unit.name]
        right = problem(unit).digests(launch.passes)
        wrong = (answers.digests != right) | (answers.masks != 0)
        tally.elements[context] = tally.elements.get(context, 0) + wrong.size
        tally.moved += int(moved.sum())
        before = tally.rounds()
        ran = tally.ran.setdefault(phase, np.zeros(_MOST * PARTITIONS + 1, np.int64))
        ran[np.unique(places[~moved])] += 1
        warps = np.flatnonzero(wrong.any(axis=1))
        if not len(warps):
            return
        breadcrumb.record_wrong()
        tally.mismatches[context] = tally.mismatches.get(context, 0) + int(wrong.sum())
        first = warps[0], int(wrong[warps[0]].argmax())
        tally.samples.setdefault(
            context,
            {
                "first_index": tuple(map(int, first)),
                "worst_index": tuple(map(int, first)),
                "expected": f"{int(right[first[1]]):#018x}",
                "observed": f"{int(answers.digests[first]):#018x}",
                "xor_mask": f"{int(right[first[1]] ^ answers.digests[first]):#018x}",
            },
        )
        for number in np.unique(places[warps]).tolist():
            here = warps[places[warps] == number]
            place = tally.places.setdefault(number, _Place(first=not before[number]))
            place.wrong[phase] = place.wrong.get(phase, 0) + 1
            place.contexts[context] = None
            place.slots.update((answers.places[here, 0] % 2**16).tolist())
            place.lanes.update(np.flatnonzero(wrong[here].any(axis=0)).tolist())
            place.mask |= int(np.bitwise_or.reduce(answers.masks[here], axis=None))
            place.moved |= bool(moved[here].any())


def _numbers(places: npt.NDArray[np.uint32]) -> tuple[Counts, Mask]:
    """The number of each warp's place, 4 * multiprocessor + sub-partition; whether it was moved.

    The slot of a warp modulo four is its sub-partition: seen by microbenchmarks, not documented.
    """
    before, after = places.astype(np.int64).T
    multiprocessor, slot = before >> 16, before & 0xFFFF
    found = multiprocessor * PARTITIONS + slot % PARTITIONS
    known = (multiprocessor < _MOST) & (after != UNWRITTEN)
    return np.where(known, found, _MOST * PARTITIONS), known & (before != after)


def planted_comparison(unit: Unit, number: int, launch: Launch, answers: Answers) -> Comparison:
    """Whether the operand that was changed on purpose has changed what it must, and no more."""
    own = launch.kinds_of_warps() == number
    right = planted(unit)
    pairs = (
        (answers.digests[own], right.digests(launch.passes)),
        (answers.masks[own], right.masks),
    )
    wrong = np.logical_or(*(seen != expected for seen, expected in pairs))
    problem = "" if not wrong.any() else "the answer is not that of its operands"
    return Comparison(operation=f"planted in {unit.name}", elements=wrong.size, problem=problem)
