"""Integer operands on a device, their gradients, and backward passes with a given gradient."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue

from probes.kit import second_read
from probes.kit.precision import full_precision

Array = npt.NDArray[np.float64]


@cache
def integers(shape: tuple[int, ...], salt: int = 0) -> Array:
    """Odd integers from -5 to 5 without a short period, so that exchanged elements are found.

    Never 0: the sign of a product with 0 is not promised. Cached and read-only.
    """
    count = math.prod(shape)
    # Knuth's multiplicative hash; its high bits mix best.
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(977 * salt)) * np.uint64(2654435761)
    six = (mixed % np.uint64(2**32)) // np.uint64(2**16) % np.uint64(6)
    values: Array = (2.0 * six - 5.0).reshape(tuple(shape))
    values.setflags(write=False)  # cached: all callers share it
    return values


def tensor(values: npt.ArrayLike, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The values as a tensor on the device; a copy that shares no memory with the reference."""
    host = torch.from_numpy(np.array(values, dtype=np.float64))
    # Convert before the move: some devices have no float64. copy=True: a copy on the CPU too.
    return host.to(dtype, copy=True).to(device)


def leaf(values: npt.ArrayLike, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The values as a leaf tensor that requires a gradient."""
    return tensor(values, device, dtype).requires_grad_()


def new_leaf(device: str) -> torch.Tensor:
    """A new leaf [1, 2, 3]."""
    return leaf([1.0, 2.0, 3.0], device)


def host(gradient: torch.Tensor) -> npt.NDArray[Any]:
    """The gradient as a NumPy array; zeros are made positive: their sign is not promised."""
    return second_read.copied(gradient, _positive_zeros)


def _positive_zeros(gradient: torch.Tensor) -> npt.NDArray[Any]:
    on_host = gradient.detach().cpu()
    if on_host.dtype == torch.bfloat16:
        on_host = on_host.float()  # exact
    array: npt.NDArray[Any] = on_host.numpy()
    return np.asarray(np.add(array, 0.0, dtype=array.dtype))


def numbers(gradient: torch.Tensor | None) -> JsonValue:
    """A small gradient as plain numbers for a fact; None without a gradient."""
    if gradient is None:
        return None
    listed: JsonValue = host(gradient).tolist()
    return listed


class _Root(torch.autograd.Function):
    """A scalar made of a tensor, whose backward passes on an upstream gradient as it was given."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
        ctx.upstream = upstream
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.upstream, None


def root(output: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    """A scalar from which a backward gives `output` exactly that upstream gradient.

    `output.backward(upstream)` and `grad(..., grad_outputs=upstream)` would do the same, but import
    torch's symbolic shapes, and sympy with them, at their first call: about a second.
    """
    scalar: torch.Tensor = _Root.apply(output, upstream)  # type: ignore[no-untyped-call]
    return scalar


@contextmanager
def recording() -> Iterator[None]:
    """Gradients on, whatever was switched at import; full precision, and no warnings."""
    with (
        warnings.catch_warnings(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        full_precision(),
    ):
        warnings.simplefilter("ignore")  # for example, reading .grad of a result warns
        yield
