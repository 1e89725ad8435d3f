"""Pinned host memory: shared with NumPy, copied in both directions without blocking, and timed."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from probes.contract import Comparison
from probes.device_transfer.places import Place, compare_in_place, poison
from probes.kit.references import attempted, attempted_all, fact
from probes.kit.tensors import synchronize

_WORDS: Final = (1, 1023, 4096, 262145)
_TIMED: Final = 3  # copies of which the fastest counts


def why_unavailable(device: str) -> str:
    """Why no memory can be pinned for that device; empty when it can be, or should be.

    CUDA and HIP must be able to pin: an error there is reported by the checks. On other back-ends
    an error for one element means that they have no allocator for pinned memory.
    """
    try:
        torch.zeros(1).pin_memory()
    except (NotImplementedError, RuntimeError) as error:
        return "" if torch.device(device).type == "cuda" else str(error).splitlines()[0]
    return ""


def _pinned_poison(words: int) -> torch.Tensor:
    """Pinned and poisoned words on the host, (words,) int32."""
    return poison(4 * words, torch.device("cpu")).view(torch.int32).pin_memory()


@dataclass(frozen=True)
class _Queue:
    """A stream of the device with an event behind its work, where the back-end has them."""

    device: torch.device
    side: bool = False  # a stream of its own, not the current one

    def submit(self, work: Callable[[], object]) -> Callable[[], object]:
        """Queue the work and return a function that waits for this work only."""
        module: Any = getattr(torch, self.device.type)
        if not all(hasattr(module, name) for name in ("Stream", "Event", "stream")):
            work()
            return partial(synchronize, str(self.device))
        current = module.current_stream(self.device)
        stream = module.Stream(self.device) if self.side else current
        event = module.Event()
        with module.stream(stream) if self.side else contextlib.nullcontext():
            work()
            event.record(stream)
        return event.synchronize  # type: ignore[no-any-return]


#: With confidential computing pinned memory is managed memory, for which is_pinned() is False.
#: Copies are right there, and about ten times slower.
_NOT_PINNED: Final = (
    "is_pinned() says False of memory that pin_memory() gave: bits and address are right, copies "
    "may be slow; with confidential computing this is as it must be"
)


def shares(host: Place, device: Place, notes: dict[str, str]) -> list[Comparison]:
    """Verify that `.numpy()` of pinned memory shares it, and that a write through it is copied.

    Adds a note where is_pinned() is False.
    """

    def write_and_copy() -> Comparison:
        pinned = _pinned_poison(4096)
        if not pinned.is_pinned():
            notes["pinned_shares"] = _NOT_PINNED
        array = pinned.numpy()
        array[:] = host.reference[:4096]
        if array.ctypes.data != pinned.data_ptr():
            return fact("shares", "two addresses", "one address")
        return compare_in_place(
            "write, then copy", pinned.to(device.device), device.reference[:4096]
        )

    return [attempted("write, then copy", write_and_copy)]


def to_device(host: Place, device: Place) -> list[Comparison]:
    """Compare non-blocking copies into the device, read after their event."""

    def copy_words(words: int) -> Comparison:
        source = _pinned_poison(words)
        source.numpy()[:] = host.reference[5 : 5 + words]
        into = poison(4 * words, device.device).view(torch.int32)
        _Queue(device.device).submit(lambda: into.copy_(source, non_blocking=True))()
        return compare_in_place(f"{4 * words} B", into, device.reference[5 : 5 + words])

    return [attempted(f"{4 * words} B", partial(copy_words, words)) for words in _WORDS]


def to_host(host: Place, device: Place) -> list[Comparison]:
    """Compare non-blocking copies out of the device, read after their event."""

    def copy_words(words: int) -> Comparison:
        into = _pinned_poison(words)
        source = device.words[7 : 7 + words]
        _Queue(device.device).submit(lambda: into.copy_(source, non_blocking=True))()
        return compare_in_place(f"{4 * words} B", into, host.reference[7 : 7 + words])

    return [attempted(f"{4 * words} B", partial(copy_words, words)) for words in _WORDS]


def both_at_once(host: Place, device: Place) -> list[Comparison]:
    """Compare copies in both directions on two streams, each read after its own event."""
    words = max(_WORDS)

    def copy_both() -> list[Comparison]:
        there, source = poison(4 * words, device.device).view(torch.int32), _pinned_poison(words)
        source.numpy()[:] = host.reference[:words]
        here, out = _pinned_poison(words), device.words[9 : 9 + words]
        synchronize(str(device.device))  # the new streams do not wait for work queued before
        queue = _Queue(device.device, side=True)
        ends = [
            queue.submit(lambda: there.copy_(source, non_blocking=True)),
            queue.submit(lambda: here.copy_(out, non_blocking=True)),
        ]
        for end in ends:
            end()
        return [
            compare_in_place("device to host", here, host.reference[9 : 9 + words]),
            compare_in_place("host to device", there, device.reference[:words]),
        ]

    return attempted_all("both at once", copy_both)


def _bytes_per_second(into: torch.Tensor, source: torch.Tensor, device: torch.device) -> float:
    """Bytes per second of the fastest of a few copies, each waited for."""
    best = float("inf")
    for _ in range(_TIMED):
        synchronize(str(device))
        begin = time.perf_counter()
        into.copy_(source, non_blocking=True)
        synchronize(str(device))
        best = min(best, time.perf_counter() - begin)
    return into.numel() * into.element_size() / best


def whole_to_device(host: Place, device: Place, rates: dict[str, float]) -> Comparison:
    """Compare the whole pattern, copied from pinned memory; add bytes per second to `rates`."""

    def into_device() -> Comparison:
        words = device.words.numel()
        source, there = _pinned_poison(words), poison(4 * words, device.device).view(torch.int32)
        source.numpy()[:] = host.reference
        rates["host_to_device"] = _bytes_per_second(there, source, device.device)
        return compare_in_place("whole", there, device.reference)

    return attempted("whole", into_device)


def whole_to_host(host: Place, device: Place, rates: dict[str, float]) -> Comparison:
    """Compare the whole pattern, copied into pinned memory; add bytes per second to `rates`."""

    def into_host() -> Comparison:
        here = _pinned_poison(device.words.numel())
        rates["device_to_host"] = _bytes_per_second(here, device.words, device.device)
        return compare_in_place("whole", here, host.reference)

    return attempted("whole", into_host)
