"""Where autocast applies: the types of a device, and the types of device that torch documents."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.torch_version import TorchVersion

from probes.contract import Comparison
from probes.kit.capabilities import capability, has_dtype
from probes.kit.gradients import host
from probes.kit.references import compare

Array = npt.NDArray[np.float64]

#: Types of device for which torch documents the types of operations; ROCm's are `cuda`.
DOCUMENTED: Final = ("cpu", "cuda", "xpu")

#: The types that autocast uses where none is given, as torch documents them.
DEFAULTS: Final = {"cpu": torch.bfloat16, "cuda": torch.float16}

_LOWER: Final = (torch.float16, torch.bfloat16)

#: Before, torch.autocast refuses bfloat16 on an NVIDIA GPU, or emulates it.
_BFLOAT16_SINCE: Final = (8, 0)

TORCH: Final = TorchVersion(torch.__version__)


def kind(device: str) -> str:
    """The device's type, as autocast takes it."""
    return torch.device(device).type


def lower_types(device: str) -> tuple[torch.dtype, ...]:
    """The lower types that autocast has on the device."""
    compute = capability(device)
    too_old = compute is not None and compute < _BFLOAT16_SINCE
    return tuple(
        dtype
        for dtype in _LOWER
        if has_dtype(device, dtype) and not (too_old and dtype == torch.bfloat16)
    )


def autocast(device: str, dtype: torch.dtype | None = None, **options: Any) -> torch.autocast:
    """A region of autocast on the device."""
    return torch.autocast(kind(device), dtype=dtype, **options)


@contextmanager
def plain(device: str) -> Iterator[None]:
    """A region in which autocast is switched off."""
    with autocast(device, enabled=False):
        yield


@contextmanager
def outside(device: str) -> Iterator[None]:
    """Behave as outside of every region: of torch's types, and of an end that clears the cache."""
    with autocast(device, DEFAULTS.get(kind(device)), enabled=False):
        depth = torch.autocast_increment_nesting()
        for _ in range(depth):
            torch.autocast_decrement_nesting()
        try:
            yield
        finally:
            for _ in range(depth - 1):
                torch.autocast_increment_nesting()


def interrupt() -> None:
    """Raise an error of our own, to leave a region by."""
    raise InterruptedError


def name_of(dtype: torch.dtype) -> str:
    """The type's name without its module."""
    return str(dtype).removeprefix("torch.")


def compare_typed(
    label: str,
    found: torch.Tensor | None,
    dtype: torch.dtype,
    expected: npt.ArrayLike,
    allowed: Array | float | None = None,
) -> Comparison:
    """Compare the type, then the elements: their bits, or within an absolute error.

    The sign of a zero is not compared: that of a product with 0 is not promised.
    """
    if found is None:
        return Comparison(operation=label, problem="None where a tensor is right")
    if found.dtype != dtype:
        problem = f"{name_of(found.dtype)} where {name_of(dtype)} is right"
        return Comparison(operation=label, problem=problem)
    output = host(found) if found.is_floating_point() else found.cpu().numpy()
    right = np.add(expected, 0.0, dtype=np.float64)
    return compare(
        label, output, right if allowed is not None else right.astype(output.dtype), allowed
    )
