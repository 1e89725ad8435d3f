"""What was seen: where a unit was wrong, how often and when, and how much has computed."""

from typing import Final

from pydantic import Field

from probes.contract import Frozen
from probes.kit import families

#: Sub-partitions of a multiprocessor, each with a tensor core and a scheduler of its own.
PARTITIONS: Final = 4


class WrongPlace(Frozen):
    """One sub-partition of one multiprocessor that was wrong with one type; -1: not known."""

    multiprocessor: int
    partition: int
    slots: tuple[int, ...]  # of the warps there, by the hardware's numbers
    lanes: tuple[int, ...]
    xor_mask: str  # bits of results that differed; 0x0: only the digest did
    #: Phase -> rounds in which it was wrong, of those in which it ran the type.
    rounds: dict[str, tuple[int, int]]
    contexts: tuple[str, ...]  # in which it was wrong
    from_the_first: bool  # wrong when it ran the type first
    moved: bool = False  # warps were moved meanwhile, so that another place may be to blame

    def describe(self) -> str:
        """One phrase for a person."""
        where = f"SM {self.multiprocessor} sub-partition {self.partition}"
        if self.multiprocessor < 0:
            where = "a warp that did not say where it ran"
        told = ", ".join(f"{phase} {wrong} of {of}" for phase, (wrong, of) in self.rounds.items())
        since = "from the first on" if self.from_the_first else "not at first"
        return (
            f"{where} (warps {_listed(self.slots)}, lanes {_listed(self.lanes)}): bits "
            f"{self.xor_mask}, rounds {told}, {since}, {' and '.join(self.contexts)}"
            + ("; warps were moved" if self.moved else "")
        )


class Wrong(Frozen):
    """What one type did wrong; `places` are the first of all."""

    count: int  # of places
    of: int  # places that ran the type
    multiprocessors: int  # how many have such a place
    places: tuple[WrongPlace, ...]

    @property
    def everywhere(self) -> bool:
        """Whether nearly every place was: units do not break together."""
        return self.count >= _EVERYWHERE * self.of

    def describe(self) -> str:
        """A sentence for a person."""
        more = (
            f", and {self.count - len(self.places)} more" if self.count > len(self.places) else ""
        )
        places = "; ".join(place.describe() for place in self.places)
        return (
            f"{self.count} of {self.of} sub-partitions on {self.multiprocessors} SMs wrong: "
            f"{places}{more}"
        )


class Covered(Frozen):
    """How much has computed in one type."""

    multiprocessors: int  # that were seen
    partitions: int  # of them, four each
    missing: tuple[str, ...] = ()  # the first that are known not to have been seen
    moved_warps: int = 0  # count for no place

    def whole(self, multiprocessors: int) -> bool:
        """Whether every sub-partition of so many multiprocessors has computed."""
        return (
            self.multiprocessors >= multiprocessors
            and self.partitions >= PARTITIONS * multiprocessors
        )


class Coverage(Frozen):
    """How much of the GPU was tested, and how."""

    multiprocessors: int = 0  # that the device says it has
    units: dict[str, Covered] = Field(default_factory=dict)  # by check
    rounds: int = 0
    tries: int = 0  # further ones, for places that had not been seen
    heated_s: float = 0.0
    took_s: float = 0.0

    @property
    def seen(self) -> int:
        """Multiprocessors that have computed in every type."""
        return min((each.multiprocessors for each in self.units.values()), default=0)

    @property
    def whole(self) -> bool:
        """Whether every type was computed by every sub-partition of every multiprocessor."""
        return bool(self.units) and all(
            each.whole(self.multiprocessors) for each in self.units.values()
        )

    def describe(self) -> str:
        """What a finding says of it."""
        least = min((each.partitions for each in self.units.values()), default=0)
        return (
            f"{self.seen} of {self.multiprocessors} SMs, {least} of "
            f"{PARTITIONS * self.multiprocessors} sub-partitions x {len(self.units)} types, in "
            f"{self.rounds} rounds, {self.heated_s:.1f} s of heat"
        )


class Observation(families.Observation):
    """Comparisons by check and context; what was wrong, and how much was covered."""

    skip: str = ""  # why nothing was run
    absent: dict[str, str] = Field(default_factory=dict)  # types left out, and why
    wrong: dict[str, Wrong] = Field(default_factory=dict)  # by check
    coverage: Coverage = Coverage()
    busy: str = ""  # who came while it ran


#: Of the places that ran a type.
_EVERYWHERE: Final = 0.9


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers as text, the first of many."""
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return " ".join(map(str, numbers[:8])) + more
