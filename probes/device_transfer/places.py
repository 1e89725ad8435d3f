"""Bits that each side makes for itself by one integer formula, and the judging of them in place.

A copy into a device is judged on the device and a copy out of it on the host, so that the
direction that is broken is the one that fails.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.references import compare
from probes.tensors import POISON_BYTE

#: Words of the ramp at the head of the pattern: 3 groups x 4096 (sign, exponent) x low, high word.
RAMP_WORDS: Final = 3 * 4096 * 2
RAMP_BYTES: Final = 4 * RAMP_WORDS

_WEYL: Final = 2654435761  # odd, near 2^32 / golden ratio: every word differs from its neighbours
_SEED: Final = 0x9E3779B9
_MASK: Final = 0xFFFFFFFF
_CHUNK_WORDS: Final = 2**20  # at most 8 MiB a temporary

Ints = TypeVar("Ints", npt.NDArray[np.int64], torch.Tensor)


def _ramp(index: Ints) -> Ints:
    """Every sign and exponent of every format, with the mantissa zero, least and full.

    As pairs (low, high word): +-0, subnormals, +-Inf, NaN payloads of 16, 32 and 64 bits.
    """
    odd, exponent, group = index & 1, (index >> 1) & 4095, index >> 13
    low = (group & 1) + (group >> 1) * _MASK
    high = exponent * 2**20 + (group >> 1) * 0xFFFFF
    return odd * high + (1 - odd) * low


def _weyl(index: Ints) -> Ints:
    return (index * _WEYL + _SEED) & _MASK


def _signed(word: torch.Tensor, out: torch.Tensor) -> None:
    """The same 32 bits as a signed number, so that the narrowing to int32 never overflows."""
    torch.sub((word + 2**31) & _MASK, 2**31, out=out)


def made_by_numpy(words: int) -> npt.NDArray[np.int32]:
    """The pattern on the host, (words,)."""
    pattern = np.empty(words, dtype=np.uint32)
    pattern[:RAMP_WORDS] = _ramp(np.arange(RAMP_WORDS, dtype=np.int64))
    for start in range(RAMP_WORDS, words, _CHUNK_WORDS):
        stop = min(start + _CHUNK_WORDS, words)
        pattern[start:stop] = _weyl(np.arange(start, stop, dtype=np.int64))
    return pattern.view(np.int32)


def made_by_torch(words: int, device: str) -> torch.Tensor:
    """The pattern made on the device, (words,) int32: nothing of it comes from the host.

    Nothing of it is copied either, since copies are what is to be judged by it: the last operation
    writes into its place.
    """
    pattern = torch.empty(words, dtype=torch.int32, device=device)
    _signed(_ramp(torch.arange(RAMP_WORDS, device=device)), out=pattern[:RAMP_WORDS])
    for start in range(RAMP_WORDS, words, _CHUNK_WORDS):
        part = pattern[start : start + _CHUNK_WORDS]
        index = torch.arange(start, start + part.numel(), device=device)
        _signed(_weyl(index), out=part)
    return pattern


@dataclass(frozen=True)
class Place:
    """A side of a copy: where it is, the pattern to copy from, and what arriving copies must be.

    On the host the reference is NumPy's own, apart from the source; on a device it is the source.
    """

    device: torch.device
    words: torch.Tensor  # (n,) int32
    reference: Any  # (n,) int32: an array on the host, a tensor on a device

    @property
    def raw(self) -> torch.Tensor:
        """The source as bytes, (4n,)."""
        return self.words.view(torch.uint8)

    @property
    def raw_reference(self) -> Any:
        """The reference as bytes, (4n,)."""
        wanted = torch.uint8 if isinstance(self.reference, torch.Tensor) else np.uint8
        return self.reference.view(wanted)


def poison(count: int, device: torch.device) -> torch.Tensor:
    """Poisoned bytes made where they lie, (count,): a copy could be what is broken."""
    return torch.full((count,), POISON_BYTE, dtype=torch.uint8, device=device)


def held(operation: str, observed: torch.Tensor, expected: Any) -> Comparison:
    """Hold integers against their reference where they lie: by NumPy on the host, else there."""
    if isinstance(expected, torch.Tensor):
        return _held_there(operation, observed, expected)
    if observed.device.type != "cpu":
        return Comparison(operation=operation, problem=f"arrived on {observed.device}, not the CPU")
    array = observed.numpy()
    if array.dtype == expected.dtype and np.array_equal(array, expected):
        return Comparison(operation=operation, elements=expected.size)
    return compare(operation, array, np.asarray(expected))


def _held_there(operation: str, observed: torch.Tensor, expected: torch.Tensor) -> Comparison:
    there = (observed.device, observed.dtype, tuple(observed.shape))
    right = (expected.device, expected.dtype, tuple(expected.shape))
    if there != right:
        return Comparison(operation=operation, problem=f"{there} where {right} is right")
    wrong = observed != expected
    count = int(wrong.sum().item())
    if not count:
        return Comparison(operation=operation, elements=wrong.numel())
    first = tuple(int(axis.item()) for axis in wrong.nonzero()[0])
    values = int(expected[first].item()), int(observed[first].item())
    return Comparison(
        operation=operation,
        elements=wrong.numel(),
        mismatches=count,
        first_index=first,
        worst_index=first,
        expected=values[0],
        observed=values[1],
        xor_mask=hex((values[0] ^ values[1]) & (256 ** observed.element_size() - 1)),
    )


def digest(values: torch.Tensor) -> tuple[int, int]:
    """(sum of x_i (2i + 1) mod 2^64, XOR of all) of integers, taken where they lie.

    The weights see swapped elements, which a plain sum and an XOR do not. Nothing is copied.
    """
    weighted = torch.zeros((), dtype=torch.int64, device=values.device)
    folded = torch.zeros(1, dtype=values.dtype, device=values.device)
    for start in range(0, values.numel(), _CHUNK_WORDS):
        part = values[start : start + _CHUNK_WORDS]
        odd = torch.arange(start, start + part.numel(), device=values.device) * 2 + 1
        weighted = weighted + (part * odd).sum()
        while part.numel() > 1:
            half = part.numel() // 2
            folded = folded ^ part[2 * half :] if part.numel() % 2 else folded
            part = part[:half] ^ part[half : 2 * half]
        folded = folded ^ part
    return int(weighted.item()) % 2**64, int(folded.item()) % 2**64


def digest_by_numpy(values: npt.NDArray[Any]) -> tuple[int, int]:
    """The same of an array, by NumPy; int64 wraps round at 2^64."""
    weighted = folded = 0
    for start in range(0, values.size, _CHUNK_WORDS):
        part = values[start : start + _CHUNK_WORDS].astype(np.int64)
        odd = np.arange(start, start + part.size, dtype=np.int64) * 2 + 1
        weighted += int((part * odd).sum())
        folded ^= int(np.bitwise_xor.reduce(part))
    return weighted % 2**64, folded % 2**64


def summed(
    operation: str,
    observed: torch.Tensor,
    expected: npt.NDArray[Any],
    right: tuple[int, int] | None = None,
) -> Comparison:
    """Hold a device's integers against the host's array by their digests, taken on each side.

    Nothing is copied but two scalars; only a mismatch is read back, to say where it is. `right` is
    the array's digest where it is known.
    """
    there, right = digest(observed), right or digest_by_numpy(expected)
    if observed.numel() == expected.size and there == right:
        return Comparison(operation=operation, elements=expected.size)
    detail = compare(operation, observed, expected)
    if not detail.holds:
        return detail
    names = " and ".join(
        name for name, a, b in zip(("sum", "XOR"), there, right, strict=True) if a != b
    )
    problem = f"weighted {names or 'size'} on {observed.device} differ from the host's"
    return Comparison(operation=operation, problem=problem)
