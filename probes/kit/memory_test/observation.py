"""What a memory test has seen: how much was tested and how, and each kind of wrong word."""

from typing import Literal

from pydantic import Field

from probes.contract import GPU_BUSY, Finding, Frozen, require, skipped
from probes.kit import families
from probes.kit.families import family_finding

#: stuck: wrong again after it was written anew. flipped: wrong in two readings, right after it was
#: written anew. transient: wrong in one reading, right in the next.
Kind = Literal["stuck", "flipped", "transient"]


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
    """What one operation found wrong; `words` are the first of them, the rest is of all told."""

    pattern: str
    count: int  # of all wrong words
    again: int  # of those that were wrong when their blocks were read once more
    after_rewrite: int  # and when they were written anew
    xor_mask: str  # the bits that differed in any of them
    stride_bytes: int | None = None  # the greatest step that leads to all; None for one
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
            f"{self.after_rewrite} when written anew; of the first {len(kinds)}: {told}{stride}; "
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
    written_bytes: int = 0  # in all passes
    write_s: float = 0.0
    read_bytes: int = 0
    read_s: float = 0.0

    def describe(self) -> str:
        """What a finding says of it."""
        free = "an unknown amount of free memory"
        if self.free_bytes:
            share = self.tested_bytes / self.free_bytes
            free = f"{self.free_bytes} free bytes ({100 * share:.1f} %)"
        how = f"{self.way} ({self.why})" if self.why else self.way
        return f"{self.tested_bytes} of {free} in {self.blocks} blocks, by {how}"


class Observation(families.Observation):
    """Comparisons by check, what was wrong in detail, and how much was tested."""

    coverage: Coverage = Coverage()
    wrong: dict[str, tuple[Wrong, ...]] = Field(default_factory=dict)  # by check
    busy: str = ""  # who came while the test ran
    seed: str = ""  # of random patterns, hexadecimal


#: What to do about memory that does not hold what is written to it.
HINT = (
    "confirm with `nvidia-smi -q -d ECC,ROW_REMAPPER` and a second run; a word that is stuck, or "
    "wrong at the same place again: drain the node, reset the GPU, and replace it when it comes "
    "back; wrong on every device alike: the image's libraries are wrong, not the memory"
)


def memory_finding(check: str, observation: Observation) -> Finding:
    """The finding for one family: how much was tested where it passes, what was wrong where not."""
    name = check.partition(".")[2]
    if observation.busy and name not in observation.families:
        return skipped(check, observation.busy)
    finding = family_finding(check, observation, hint=HINT)
    if finding.status == "pass":
        left = f"; {finding.message}" if finding.message else ""
        return finding.model_copy(update={"message": observation.coverage.describe() + left})
    details = [each.describe() for each in observation.wrong.get(name, ())]
    if finding.status != "fail" or not details:
        return finding
    message = f"{'; '.join(details)}; tested: {observation.coverage.describe()}"
    return finding.model_copy(update={"message": message, "action": "drain"})


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
        coverage.tested_bytes >= share * coverage.free_bytes,
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
