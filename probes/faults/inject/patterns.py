"""What a wrong answer looks like: each pattern spoils one output of an operation, in place.

A pattern gives False where it does not apply to that output, as a NaN does not to integers.
"""

from collections.abc import Callable
from typing import Final

import torch

Pattern = Callable[[torch.Tensor], bool]

#: Threads of a GPU's warp: what one bad lane computes is that far apart.
_WARP: Final = 32


def _rewritten(out: torch.Tensor, change: Callable[[torch.Tensor], None]) -> bool:
    """Change a copy of the output on the host, flat and in its order, and write it back."""
    flat = out.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1)
    change(flat)
    out.copy_(flat.reshape(out.shape))
    return True


def _is_real(out: torch.Tensor) -> bool:
    return out.is_floating_point() or out.is_complex()


def zeros(out: torch.Tensor) -> bool:
    """The kernel did nothing, and its memory was zero."""
    out.zero_()
    return True


def garbage(out: torch.Tensor) -> bool:
    """The kernel did nothing, and its memory held something."""
    out.fill_(7)
    return True


def scaled(by: float) -> Pattern:
    """Wrong by a factor everywhere."""

    def spoil(out: torch.Tensor) -> bool:
        if _is_real(out):
            out.mul_(by)
        return _is_real(out)

    return spoil


def _flip(flat: torch.Tensor, step: int) -> None:
    raw = flat.view(torch.uint8).reshape(flat.numel(), -1)  # (elements, bytes), lowest byte first
    raw[(flat.numel() - 1) % step :: step, 0] ^= 1


def one_bit(out: torch.Tensor) -> bool:
    """The lowest bit of the last element."""
    return _rewritten(out, lambda flat: _flip(flat, flat.numel()))


def one_a_warp(out: torch.Tensor) -> bool:
    """The lowest bit of every 32nd element: one bad lane."""
    return _rewritten(out, lambda flat: _flip(flat, _WARP))


def nan(out: torch.Tensor) -> bool:
    """A NaN in the last element."""
    if not _is_real(out):
        return False

    def change(flat: torch.Tensor) -> None:
        flat[-1] = float("nan")

    return _rewritten(out, change)


def swapped(out: torch.Tensor) -> bool:
    """The last two elements exchanged."""

    def change(flat: torch.Tensor) -> None:
        flat[-2:] = flat[-2:].flip(0)

    return out.numel() > 1 and _rewritten(out, change)


def shifted(out: torch.Tensor) -> bool:
    """Every element one place further: an address that is off by one."""

    def change(flat: torch.Tensor) -> None:
        flat.copy_(flat.roll(1))

    return out.numel() > 1 and _rewritten(out, change)


def short(out: torch.Tensor) -> bool:
    """The last element was never written."""

    def change(flat: torch.Tensor) -> None:
        if flat.dtype == torch.bool:  # of which no byte but 0 and 1 is a value
            flat[-1:].logical_not_()
        else:
            flat[-1:].view(torch.uint8).fill_(0xCD)

    return _rewritten(out, change)


def flushed(out: torch.Tensor) -> bool:
    """Subnormal numbers become zero."""
    if not out.is_floating_point():
        return False
    tiny = (out.abs() < torch.finfo(out.dtype).tiny) & (out != 0)
    out.copy_(torch.where(tiny, torch.zeros_like(out).copysign(out), out))
    return bool(tiny.any())


def flipped(out: torch.Tensor) -> bool:
    """The last element's truth turned around."""

    def change(flat: torch.Tensor) -> None:
        flat[-1:] = flat[-1:].logical_not()

    return _rewritten(out, change)


def stale() -> Pattern:
    """The answer of the call before of the same shape: memory that was never written again."""
    before: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}

    def spoil(out: torch.Tensor) -> bool:
        key = (out.shape, out.dtype)
        now = out.detach().clone()
        if key in before:
            out.copy_(before[key])
        wrong = key in before
        before[key] = now
        return wrong

    return spoil


#: Those that need nothing told.
PATTERNS: Final[dict[str, Pattern]] = {
    pattern.__name__: pattern
    for pattern in (
        *(zeros, garbage, one_bit, one_a_warp, nan, swapped, shifted, short, flushed, flipped),
    )
}


def pattern(name: str, by: float = 1.0) -> Pattern:
    """A pattern by its name; `scaled` by a factor."""
    if name == "scaled":
        return scaled(by)
    return stale() if name == "stale" else PATTERNS[name]
