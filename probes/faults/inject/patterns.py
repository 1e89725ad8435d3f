"""Patterns of wrong results: each spoils one output of an operation, in place.

A pattern returns False if it does not apply to the output, such as a NaN to integers.
"""

from collections.abc import Callable
from typing import Final

import torch

Pattern = Callable[[torch.Tensor], bool]

#: Threads of a warp: the results of one bad lane are that far apart.
_WARP: Final = 32


def _rewrite(out: torch.Tensor, change: Callable[[torch.Tensor], None]) -> bool:
    """Change a flat copy of the output on the host, and write it back. Returns True."""
    flat = out.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1)
    change(flat)
    out.copy_(flat.reshape(out.shape))
    return True


def _is_real(out: torch.Tensor) -> bool:
    return out.is_floating_point() or out.is_complex()


def zeros(out: torch.Tensor) -> bool:
    """Set all to zero: the kernel wrote nothing, and its memory was zero."""
    out.zero_()
    return True


def garbage(out: torch.Tensor) -> bool:
    """Set all to 7: the kernel wrote nothing, and its memory held old values."""
    out.fill_(7)
    return True


def scaled(by: float) -> Pattern:
    """A pattern that multiplies every element by a factor."""

    def spoil(out: torch.Tensor) -> bool:
        if _is_real(out):
            out.mul_(by)
        return _is_real(out)

    return spoil


def _flip_lowest_bits(flat: torch.Tensor, step: int) -> None:
    raw = flat.view(torch.uint8).reshape(flat.numel(), -1)  # (elements, bytes), lowest byte first
    raw[(flat.numel() - 1) % step :: step, 0] ^= 1


def one_bit(out: torch.Tensor) -> bool:
    """Flip the lowest bit of the last element."""
    return _rewrite(out, lambda flat: _flip_lowest_bits(flat, flat.numel()))


def one_a_warp(out: torch.Tensor) -> bool:
    """Flip the lowest bit of every 32nd element: one bad lane of a warp."""
    return _rewrite(out, lambda flat: _flip_lowest_bits(flat, _WARP))


def nan(out: torch.Tensor) -> bool:
    """Set the last element to NaN."""
    if not _is_real(out):
        return False

    def change(flat: torch.Tensor) -> None:
        flat[-1] = float("nan")

    return _rewrite(out, change)


def swapped(out: torch.Tensor) -> bool:
    """Exchange the last two elements."""

    def change(flat: torch.Tensor) -> None:
        flat[-2:] = flat[-2:].flip(0)

    return out.numel() > 1 and _rewrite(out, change)


def shifted(out: torch.Tensor) -> bool:
    """Move every element by one: an address that is off by one."""

    def change(flat: torch.Tensor) -> None:
        flat.copy_(flat.roll(1))

    return out.numel() > 1 and _rewrite(out, change)


def short(out: torch.Tensor) -> bool:
    """Overwrite the last element: it was never written."""

    def change(flat: torch.Tensor) -> None:
        if flat.dtype == torch.bool:  # only the bytes 0 and 1 are valid
            flat[-1:].logical_not_()
        else:
            flat[-1:].view(torch.uint8).fill_(0xCD)

    return _rewrite(out, change)


def flushed(out: torch.Tensor) -> bool:
    """Set subnormal numbers to zero."""
    if not out.is_floating_point():
        return False
    tiny = (out.abs() < torch.finfo(out.dtype).tiny) & (out != 0)
    out.copy_(torch.where(tiny, torch.zeros_like(out).copysign(out), out))
    return bool(tiny.any())


def swallowed(out: torch.Tensor) -> bool:
    """Set NaN to zero."""
    if not _is_real(out):
        return False
    nan = out.isnan()
    out.masked_fill_(nan, 0)
    return bool(nan.any())


#: Type -> the next shorter one.
_SHORTER: Final = {
    torch.complex128: torch.complex64,
    torch.float64: torch.float32,
    torch.float32: torch.bfloat16,
}


def narrowed(out: torch.Tensor) -> bool:
    """Round to the next shorter type, as if computed in it: float64 to float32, for example."""
    shorter = _SHORTER.get(out.dtype)
    if shorter is not None:
        out.copy_(out.to(shorter))
    return shorter is not None


def wrapped(bits: int) -> Pattern:
    """A pattern that takes elements from 2^bits on from the start: an address of so many bits."""

    def spoil(out: torch.Tensor) -> bool:
        count = int(out.numel()) - (1 << bits)
        if count > 0:
            flat = out.detach().reshape(-1)
            flat[1 << bits :] = flat[:count].clone()
            if flat.data_ptr() != out.data_ptr():
                out.copy_(flat.reshape(out.shape))
        return count > 0

    return spoil


def counted(out: torch.Tensor) -> bool:
    """Round 64-bit integers to float32: a counter or an address of that type."""
    if out.dtype != torch.int64:
        return False
    rounded = out.float().long()
    changed = not torch.equal(rounded, out)
    out.copy_(rounded)
    return changed


def flipped(out: torch.Tensor) -> bool:
    """Negate the last element as a boolean."""

    def change(flat: torch.Tensor) -> None:
        flat[-1:] = flat[-1:].logical_not()

    return _rewrite(out, change)


def stale() -> Pattern:
    """A pattern that returns the previous result of the same shape: memory not written again."""
    previous: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}

    def spoil(out: torch.Tensor) -> bool:
        key = (out.shape, out.dtype)
        now = out.detach().clone()
        if key in previous:
            out.copy_(previous[key])
        wrong = key in previous
        previous[key] = now
        return wrong

    return spoil


#: The patterns without parameters.
PATTERNS: Final[dict[str, Pattern]] = {
    pattern.__name__: pattern
    for pattern in (
        *(zeros, garbage, one_bit, one_a_warp, nan, swapped, shifted, short, flushed, flipped),
        *(swallowed, narrowed, counted),
    )
}


def pattern(name: str, by: float = 1.0) -> Pattern:
    """The pattern of that name; `by` is the factor of `scaled`, and the bits of `wrapped`."""
    if name == "wrapped":
        return wrapped(int(by))
    if name == "scaled":
        return scaled(by)
    return stale() if name == "stale" else PATTERNS[name]
