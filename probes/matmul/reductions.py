"""Whether a split sum of half types may keep its parts in the half type: both ways.

Ref: https://docs.pytorch.org/docs/stable/notes/cuda.html#reduced-precision-reduction-in-fp16-gemms
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch

from probes.kit.capabilities import back_end

_SWITCHES: Final = {
    torch.float16: "allow_fp16_reduced_precision_reduction",
    torch.bfloat16: "allow_bf16_reduced_precision_reduction",
}


def reduced_sums(dtype: torch.dtype, device: str) -> list[tuple[str, AbstractContextManager[None]]]:
    """What a label says, and the setting: both for half types on a GPU, else the one in force."""
    name = _SWITCHES.get(dtype, "")
    if not name or back_end(device) not in {"cuda", "hip"}:
        return [("", nullcontext())]
    return [
        (", shortened sums", _reduced(name, allowed=True)),
        (", full sums", _reduced(name, allowed=False)),
    ]


@contextmanager
def _reduced(name: str, *, allowed: bool) -> Iterator[None]:
    """Set the switch, and restore it; newer torch has a second part of it."""
    switches: Any = torch.backends.cuda.matmul
    before, split = getattr(switches, name), _split(switches, name)
    try:
        setattr(switches, name, allowed)
        yield
    finally:
        setattr(switches, name, before if split is None else (before, split))


def _split(switches: Any, name: str) -> bool | None:
    """Whether sums may be split at all; None where torch has no such part."""
    try:
        return bool(getattr(switches, f"{name}_split_k"))
    except (AttributeError, AssertionError):
        return None
