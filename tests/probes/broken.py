"""Ways to break torch from outside, below what a probe calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Fused attention on the CPU; before torch 2.3 it shared its name with the GPU's.
ATTENTION: Final = "_scaled_dot_product_flash_attention" + (
    "_for_cpu" if hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu") else ""
)


class Broken(TorchDispatchMode):
    """Lets an operation of torch run and spoils its output; or, `instead`, replaces it.

    `spoil` gets (output, *arguments), or (function, *arguments) where it replaces.
    """

    def __init__(self, name: str, spoil: Callable[..., Any], *, instead: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name, self._spoil, self._instead = f"aten::{name}", spoil, instead

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation, and break it when it is the one."""
        kwargs = kwargs or {}
        if func.overloadpacket._qualified_op_name != self._name:
            return func(*args, **kwargs)
        if self._instead:
            return self._spoil(func, *args, **kwargs)
        return self._spoil(func(*args, **kwargs), *args)


@contextmanager
def patched(owner: Any = torch.Tensor, **methods: Any) -> Iterator[None]:
    """Replace attributes of an object of torch."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in methods.items():
            patch.setattr(owner, name, method)
        yield


def _bytes(out: torch.Tensor) -> torch.Tensor:
    """The output's bytes where it is dense; else none."""
    return out.view(-1).view(torch.uint8) if out.is_contiguous() else out.new_empty(0).byte()


def one_bit(out: torch.Tensor, *_: Any) -> torch.Tensor:
    """Flip a bit in the middle."""
    raw = _bytes(out)
    if raw.numel():
        raw[raw.numel() // 2] ^= 4
    return out


def last_byte(out: torch.Tensor, *_: Any) -> torch.Tensor:
    """Lose the last byte."""
    raw = _bytes(out)
    if raw.numel():
        raw[-1] = 0xAB if int(raw[-1]) != 0xAB else 0xAC
    return out


def zeros(out: torch.Tensor, *_: Any) -> torch.Tensor:
    """Give nothing."""
    return out.zero_()


def scaled(factor: float) -> Callable[..., Any]:
    """Be wrong by a factor, in the first output where there are several."""

    def spoil(out: Any, *_: Any) -> Any:
        return (out[0] * factor, *out[1:]) if isinstance(out, tuple) else out * factor

    return spoil


def swapped(out: torch.Tensor, *_: Any) -> torch.Tensor:
    """Exchange two words of a large output, far apart."""
    raw = _bytes(out)
    if raw.numel() > 2**20:
        raw[200000:200004], raw[600000:600004] = raw[600000:600004] + 0, raw[200000:200004] + 0
    return out


def large(spoil: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Spoil outputs of 1 MiB and more only."""
    return lambda out, *a: spoil(out) if out.numel() * out.element_size() >= 2**20 else out


def of(dtype: torch.dtype, spoil: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Spoil outputs of one dtype only."""
    return lambda out, *a: spoil(out) if out.dtype == dtype else out
