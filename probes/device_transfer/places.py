"""The two sides of a copy, and comparisons on the side where the copy arrives.

Each side computes the same pattern of integers. A copy into a device is compared on the device, a
copy out of it on the host, so that only the broken direction fails.
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
    """A side of a copy: its device, the words to copy from, and the reference for copies into it.

    On the host the reference is a NumPy array of its own; on a device it is the source itself.
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


def non_host_side(source: Place, target: Place) -> str:
    """The side of a copy that is not the host; the host where both are."""
    sides = (source.device, target.device)
    return str(next((side for side in sides if side.type != "cpu"), sides[0]))


def poison(count: int, device: torch.device) -> torch.Tensor:
    """Poisoned bytes, (count,), made on the device itself, since copies may be broken."""
    return torch.full((count,), POISON_BYTE, dtype=torch.uint8, device=device)


def compare_in_place(operation: str, observed: torch.Tensor, expected: Any) -> Comparison:
    """Compare integers with a reference on the same device: by NumPy on the host, else by torch."""
    if isinstance(expected, torch.Tensor):
        return _compare_on_device(operation, observed, expected)
    if observed.device.type != "cpu":
        return Comparison(operation=operation, problem=f"arrived on {observed.device}, not the CPU")
    array = observed.numpy()
    if array.dtype == expected.dtype and np.array_equal(array, expected):
        return Comparison(operation=operation, elements=expected.size)
    return compare(operation, array, np.asarray(expected))


def _compare_on_device(
    operation: str, observed: torch.Tensor, expected: torch.Tensor
) -> Comparison:
    observed_form = (observed.device, observed.dtype, tuple(observed.shape))
    expected_form = (expected.device, expected.dtype, tuple(expected.shape))
    if observed_form != expected_form:
        return Comparison(
            operation=operation, problem=f"{observed_form} where {expected_form} is right"
        )
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
    """(sum of x_i (2i + 1) mod 2^64, XOR of all) of integers, computed on their device.

    The weights change with swapped elements; a plain sum and an XOR do not. Nothing is copied.
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
    """The digest of an array, by NumPy; int64 wraps round at 2^64."""
    weighted = folded = 0
    for start in range(0, values.size, CHUNK_WORDS):
        part = values[start : start + CHUNK_WORDS].astype(np.int64)
        odd = np.arange(start, start + part.size, dtype=np.int64) * 2 + 1
        weighted += int((part * odd).sum())
        folded ^= int(np.bitwise_xor.reduce(part))
    return weighted % 2**64, folded % 2**64


def compare_digests(
    operation: str,
    observed: torch.Tensor,
    expected: npt.NDArray[Any],
    expected_digest: tuple[int, int] | None = None,
) -> Comparison:
    """Compare a device's integers with the host's array by their digests, computed on each side.

    Only two scalars are copied; after a mismatch all is read back, to say where it is.
    `expected_digest` is the array's, where it is known.
    """
    observed_digest, expected_digest = (
        digest(observed),
        expected_digest or digest_by_numpy(expected),
    )
    if observed.numel() == expected.size and observed_digest == expected_digest:
        return Comparison(operation=operation, elements=expected.size)
    detail = compare(operation, observed, expected)
    if not detail.holds:
        return detail
    names = " and ".join(
        name
        for name, a, b in zip(("sum", "XOR"), observed_digest, expected_digest, strict=True)
        if a != b
    )
    problem = f"weighted {names or 'size'} on {observed.device} differ from the host's"
    return Comparison(operation=operation, problem=problem)
