"""The patterns that memory is filled with, one 64-bit word for each index, as NumPy computes them.

A hashed pattern gives every index a word of its own: a permutation of 64 bits (odd factors and
shifted exclusive ors can be undone), so that two addresses that are one cell are told apart, and
half of the bits differ between neighbours.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

WORD_BYTES: Final = 8
ONES: Final = 2**64 - 1

#: Odd factors of the hash; any pair that mixes would do.
FIRST_FACTOR: Final = 0x9E3779B97F4A7C15
SECOND_FACTOR: Final = 0xD6E8FEB86659FD93
SHIFT: Final = 32

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Pattern:
    """Index i holds `hash(i ^ seed) ^ mask`, or `mask` alone where nothing is hashed."""

    name: str
    mask: int = 0
    seed: int = 0
    hashed: bool = True

    @property
    def complement(self) -> "Pattern":
        """Each bit the other way round."""
        return replace(self, name=f"complement of {self.name}", mask=self.mask ^ ONES)

    def at(self, indices: npt.NDArray[Any]) -> Words:
        """The words of these indices."""
        if not self.hashed:
            return np.full(indices.shape, self.mask, np.uint64)
        word = (indices.astype(np.uint64) ^ np.uint64(self.seed)) * np.uint64(FIRST_FACTOR)
        word = (word ^ (word >> np.uint64(SHIFT))) * np.uint64(SECOND_FACTOR)
        return np.asarray(word ^ (word >> np.uint64(SHIFT)) ^ np.uint64(self.mask))


def constant(byte: int) -> Pattern:
    """The same byte everywhere."""
    return Pattern(f"0x{byte:02x}", mask=byte * 0x0101010101010101, hashed=False)


OWN_ADDRESS: Final = Pattern("own address")


def random(seed: int) -> Pattern:
    """Words that no other run has; the seed has 64 bits."""
    return Pattern("random", seed=seed)
