"""Parameters of several shapes and layouts, their gradients, and the ways an optimizer can step."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.kit.capabilities import has_kernel
from probes.kit.gradients import integers, tensor
from probes.kit.rounding import Array

#: Dense layouts: gradients and states have the same strides, as autograd's gradients do.
#: An empty parameter is among them, and a transposed one.
_DENSE: Final = (((), ""), ((1,), ""), ((5, 7), ""), ((0,), ""), ((3, 11), "transposed"))
#: With gaps between its elements; fused kernels take no such parameter.
_WITH_GAPS: Final = (*_DENSE, ((9,), "gaps"))

#: More tensors than one launch of a multi-tensor kernel takes (110), and one that is larger than
#: its chunk of 65536 elements.
_MANY: Final = (*(((1 + i % 5,), "") for i in range(60)), ((65539,), ""), *(((3,), ""),) * 60)

#: What an optimizer does that is not asked for an implementation: as most training calls it.
BY_DEFAULT: Final = "by default"

Place = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class Layout:
    """The shapes of the parameters; all values are given as one flat array."""

    places: tuple[Place, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return sum(math.prod(shape) for shape, _ in self.places)

    def tensors(
        self, values: Array, device: str, dtype: torch.dtype = torch.float32
    ) -> list[torch.Tensor]:
        """The values as tensors of these shapes on the device."""
        made, start = [], 0
        for shape, strides in self.places:
            end = start + math.prod(shape)
            made.append(_tensor(values[start:end].reshape(shape), strides, device, dtype))
            start = end
        return made

    def parameters(
        self, values: Array, device: str, dtype: torch.dtype = torch.float32
    ) -> list[torch.Tensor]:
        """The same, as leaves that require gradients."""
        return [each.requires_grad_() for each in self.tensors(values, device, dtype)]


DENSE: Final = Layout(_DENSE)
WITH_GAPS: Final = Layout(_WITH_GAPS)
MANY: Final = Layout(_MANY)


def _tensor(values: Array, strides: str, device: str, dtype: torch.dtype) -> torch.Tensor:
    if strides == "transposed":
        return tensor(np.ascontiguousarray(values.T), device, dtype).t()
    if strides == "gaps":
        return tensor(np.repeat(values, 2), device, dtype)[::2]
    return tensor(values, device, dtype)


def set_gradients(parameters: Sequence[torch.Tensor], layout: Layout, values: Array) -> None:
    """Give the parameters new gradients."""
    if not parameters:
        return
    first = parameters[0]
    gradients = layout.tensors(values, str(first.device), first.dtype)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def flat(tensors: Sequence[torch.Tensor]) -> npt.NDArray[Any]:
    """All elements in one array on the host; bfloat16 as float32, which is exact."""
    arrays = []
    for each in tensors:
        host = each.detach().cpu()
        host = host.float() if host.dtype == torch.bfloat16 else host
        arrays.append(host.numpy().reshape(-1))
    return np.concatenate(arrays)


def start(size: int, scale: float = 1.0) -> Array:
    """The parameters before the first step: odd integers from -5 to 5 times a scale."""
    return integers((size,), 31) * scale


def gradients(size: int, factors: Sequence[float], scale: float = 1.0) -> list[Array]:
    """The gradients of each step: other odd integers each time, times a factor."""
    return [integers((size,), 32 + t) * scale * factor for t, factor in enumerate(factors)]


def implementations(
    optimizer: str, fused: str, device: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The implementations that torch has on the device: name -> the arguments that choose it.

    Args:
        optimizer: its name in torch.optim.
        fused: its fused kernel, as the dispatcher names it; empty: the optimizer has none.
        device: where it must have a kernel; torch documents the optimizers and devices for which
            it has one, and they differ by version.
    """
    yield BY_DEFAULT, {}
    yield "for-loop", {"foreach": False}
    yield "foreach", {"foreach": True}
    if fused and has_kernel(fused, device) and _takes_fused(optimizer, device):
        yield "fused", {"fused": True}


def _takes_fused(optimizer: str, device: str) -> bool:
    """Whether the optimizer offers its fused form on the device.

    A kernel alone is not enough: torch 2.11 has one of Adagrad for CUDA that Adagrad refuses, some
    optimizers when they are made and some at their first step.
    """
    parameter = torch.zeros(1, device=device, requires_grad=True)
    parameter.grad = torch.ones(1, device=device)
    try:
        getattr(torch.optim, optimizer)([parameter], lr=0.5, fused=True).step()
    except RuntimeError as error:
        if "supported devices" in str(error):
            return False
        raise
    except (TypeError, ValueError):  # the trial raises it again, and its check reports that
        return True
    return True
