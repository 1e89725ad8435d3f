"""The pattern: integers that each side computes by one formula, with all special floats."""

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch

#: Words of the ramp at the start of the pattern: 3 groups x 4096 (sign, exponent) x low, high word.
RAMP_WORDS: Final = 3 * 4096 * 2


RAMP_BYTES: Final = 4 * RAMP_WORDS


_WEYL: Final = 2654435761  # odd, near 2^32 / golden ratio: every word differs from its neighbours


_SEED: Final = 0x9E3779B9


_MASK: Final = 0xFFFFFFFF


CHUNK_WORDS: Final = 2**20  # at most 8 MiB a temporary


Ints = TypeVar("Ints", npt.NDArray[np.int64], torch.Tensor)


def _ramp(index: Ints) -> Ints:
    """The words for every sign and exponent of every format, with mantissa zero, least and full.

    Pairs (low, high word): +-0, subnormals, +-Inf, NaN payloads of 16, 32 and 64 bits.
    """
    odd, exponent, group = index & 1, (index >> 1) & 4095, index >> 13
    low = (group & 1) + (group >> 1) * _MASK
    high = exponent * 2**20 + (group >> 1) * 0xFFFFF
    return odd * high + (1 - odd) * low


def _weyl(index: Ints) -> Ints:
    return (index * _WEYL + _SEED) & _MASK


def _signed(word: torch.Tensor, out: torch.Tensor) -> None:
    """Write the same 32 bits as signed numbers, so that the conversion to int32 cannot overflow."""
    torch.sub((word + 2**31) & _MASK, 2**31, out=out)


def numpy_pattern(words: int) -> npt.NDArray[np.int32]:
    """The pattern computed by NumPy, (words,)."""
    pattern = np.empty(words, dtype=np.uint32)
    pattern[:RAMP_WORDS] = _ramp(np.arange(RAMP_WORDS, dtype=np.int64))
    for start in range(RAMP_WORDS, words, CHUNK_WORDS):
        stop = min(start + CHUNK_WORDS, words)
        pattern[start:stop] = _weyl(np.arange(start, stop, dtype=np.int64))
    return pattern.view(np.int32)


def torch_pattern(words: int, device: str) -> torch.Tensor:
    """The pattern computed on the device, (words,) int32: nothing comes from the host.

    Nothing is copied on the device either, since copies are compared with it: the last operation
    writes into the final place.
    """
    pattern = torch.empty(words, dtype=torch.int32, device=device)
    _signed(_ramp(torch.arange(RAMP_WORDS, device=device)), out=pattern[:RAMP_WORDS])
    for start in range(RAMP_WORDS, words, CHUNK_WORDS):
        part = pattern[start : start + CHUNK_WORDS]
        index = torch.arange(start, start + part.numel(), device=device)
        _signed(_weyl(index), out=part)
    return pattern
