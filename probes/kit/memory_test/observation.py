"""What a memory test has seen: how much was tested and how, and each kind of wrong word."""

from typing import Final, Literal

from pydantic import Field

from probes.contract import GPU_BUSY, Finding, Frozen, require, skipped
from probes.kit import families
from probes.kit.families import family_finding

#: The check that looks at the test itself, which a cache may answer.
CHECKER: Final = "planted"

#: stuck: wrong again after it was written anew. flipped: wrong in two readings, right after it was
#: written anew. transient: wrong in one reading, right in the next.
Kind = Literal["stuck", "flipped", "transient"]


#: What is written and read later is in memory if it is so many times what the cache holds.
_CACHES: Final = 2


class WrongWord(Frozen):
    """One word of 64 bits; offsets are in bytes."""

    offset_bytes: int  # in all of the tested memory
    block: int
    block_offset_bytes: int
    address: str  # virtual, of this process
    expected: str
    xor_mask: str  # the bits that differed when it was read first
    kind: Kind


class Wrong(Frozen):
    """What one operation found wrong; `words` are a few of them, by their places."""

    pattern: str
    count: int  # of all wrong words
    again: int  # of those that were wrong when their blocks were read once more
    after_rewrite: int  # and when they were written anew
    xor_mask: str  # the bits that differed in any of them
    first_offset_bytes: int | None = None  # of the first of all; None in old recordings
    stride_bytes: int | None = None  # the greatest step that leads to all told; None for one
    words: tuple[WrongWord, ...] = ()

    def describe(self) -> str:
        """One sentence for a person."""
        kinds = [word.kind for word in self.words]
        told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        stride = f", a multiple of {self.stride_bytes} bytes apart" if self.stride_bytes else ""
        places = ", ".join(
            f"byte {word.offset_bytes} (block {word.block}, bits {word.xor_mask})"
            for word in self.words[:3]
        )
        return (
            f"{self.pattern}: {self.count} words wrong, {self.again} when read again, "
            f"{self.after_rewrite} when written anew; of {len(kinds)}: {told}{stride}; "
            f"bits that differ {self.xor_mask}; at {places}"
        )


class Coverage(Frozen):
    """How much memory was tested, and how."""

    way: str = ""  # kernels or torch
    why: str = ""  # not by kernels
    free_bytes: int | None = None  # before; None: cannot be told
    wanted_bytes: int = 0
    tested_bytes: int = 0
    blocks: int = 0
    less: str = ""  # why less is tested than was taken
    cache_bytes: int = 0  # of the device's largest cache; 0: not known
    written_bytes: int = 0  # in the passes that only write
    write_s: float = 0.0
    read_bytes: int = 0  # in those that only check
    read_s: float = 0.0

    def describe(self) -> str:
        """What a finding says of it."""
        free = "an unknown amount of free memory"
        if self.free_bytes is not None:
            share = self.tested_bytes / max(1, self.free_bytes)
            free = f"{self.free_bytes} free bytes ({100 * share:.1f} %)"
        how = f"{self.way} ({self.why})" if self.why else self.way
        less = f"; {self.less}" if self.less else ""
        if self.is_cached():
            less += f"; a cache of {self.cache_bytes} bytes may have answered for the memory"
        return f"{self.tested_bytes} of {free} in {self.blocks} blocks, by {how}{less}"

    def is_cached(self) -> bool:
        """Whether what was written may have been read from a cache, and never from memory."""
        return 0 < self.tested_bytes < _CACHES * self.cache_bytes


class Observation(families.Observation):
    """Comparisons by check, what was wrong in detail, and how much was tested."""

    coverage: Coverage = Coverage()
    wrong: dict[str, tuple[Wrong, ...]] = Field(default_factory=dict)  # by check
    busy: str = ""  # who came while the test ran
    heat: str = ""  # what warmed the device while memory was left to itself, or why nothing did
    seed: str = ""  # of random patterns, hexadecimal


#: What to do about memory that does not hold what is written to it.
HINT = (
    "confirm with `nvidia-smi -q -d ECC,ROW_REMAPPER` and a second run; a word that is stuck, or "
    "wrong at the same place again: drain the node, reset the GPU, and replace it when it comes "
    "back; wrong on every device alike: the image's libraries are wrong, not the memory"
)


def memory_finding(check: str, observation: Observation) -> Finding:
    """The finding for one family: how much was tested where it passes, what was wrong where not.

    A pass that was not ended, or that a GPU's cache alone may have answered, tells nothing.
    """
    name = check.partition(".")[2]
    if observation.busy and name not in observation.families:
        return skipped(check, observation.busy)
    finding = family_finding(check, observation, hint=HINT)
    if finding.status == "pass":
        return _passed(name, finding, observation)
    details = [each.describe() for each in observation.wrong.get(name, ())]
    if finding.status != "fail" or not details:
        return finding
    message = f"{'; '.join(details)}; tested: {observation.coverage.describe()}"
    return finding.model_copy(update={"message": message, "action": "drain"})


def _passed(name: str, finding: Finding, observation: Observation) -> Finding:
    coverage = observation.coverage
    if unfinished := observation.lacking.get(name):
        why = unfinished[0].removeprefix(f"{name}: ")
        return skipped(finding.id, why)
    if name != CHECKER and coverage.is_cached() and observation.back_end_type != "cpu":
        return skipped(finding.id, f"no memory was read for certain: {coverage.describe()}")
    heat = f"; {observation.heat}" if name == "retention" and observation.heat else ""
    return finding.model_copy(update={"message": coverage.describe() + heat})


def coverage_finding(check: str, observation: Observation, share: float) -> Finding:
    """The finding over how much was tested: less than that share of what was free is a warning.

    It does not apply to memory that the host uses too, of which no such share was wanted.
    """
    coverage = observation.coverage
    if observation.busy:
        return skipped(check, observation.busy)
    if coverage.free_bytes is None:
        return skipped(check, f"how much is free cannot be told: {coverage.describe()}")
    if coverage.wanted_bytes < share * coverage.free_bytes:
        return skipped(check, f"the host uses this memory too: {coverage.describe()}")
    return require(
        check,
        0 < coverage.tested_bytes >= share * coverage.free_bytes,
        coverage.tested_bytes,
        f">= {share:.0%} of {coverage.free_bytes} free bytes",
        message=f"tested: {coverage.describe()}",
        hint="nothing is known of the rest: run it again on a drained node; `nvidia-smi` says who "
        "takes memory",
        action="none",
        otherwise="warn",
    )


def busy(who: str) -> str:
    """The message of a check that gave way to others."""
    return f"{GPU_BUSY}: {who}"
