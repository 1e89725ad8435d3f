"""Bits that each side makes for itself by one integer formula, and the judging of them in place.

A copy into a device is judged on the device and a copy out of it on the host, so that the
direction that is broken is the one that fails.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.device_transfer.pattern import CHUNK_WORDS
from probes.kit.references import compare
from probes.kit.tensors import POISON_BYTE


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


def apart_from_host(source: Place, target: Place) -> str:
    """The side of a copy that is not the host; the host where both are."""
    sides = (source.device, target.device)
    return str(next((side for side in sides if side.type != "cpu"), sides[0]))


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
    for start in range(0, values.numel(), CHUNK_WORDS):
        part = values[start : start + CHUNK_WORDS]
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
    for start in range(0, values.size, CHUNK_WORDS):
        part = values[start : start + CHUNK_WORDS].astype(np.int64)
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
