"""Gradient scalers of any version of torch, and a model of parameters that are stepped by one."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch

from probes.amp.regions import TORCH, compare_typed, kind
from probes.contract import Comparison
from probes.kit.capabilities import floats, has_kernel
from probes.kit.gradients import integers, tensor

#: The scale at first: gradients of integers up to 5 times it are exact in every type but float16.
SCALE: Final = 2.0**10

_UNSCALE: Final = "_amp_foreach_non_finite_check_and_unscale_"

#: Types of device for which torch documents a scaler.
_DOCUMENTED: Final = ("cpu", "cuda")

_SHAPES: Final[tuple[tuple[int, ...], ...]] = ((5, 7), (), (0,), (1,), (33,))


def no_scaler(device: str) -> str:
    """Why there is no scaler for the device; empty where there is one."""
    if kind(device) == "cuda":
        return ""
    if not hasattr(torch.amp, "GradScaler"):
        return f"torch 2.3 and later have a GradScaler for {kind(device)}; this is {TORCH}"
    if kind(device) not in _DOCUMENTED and not has_kernel(_UNSCALE, device):
        return f"torch documents GradScaler for {' and '.join(_DOCUMENTED)}, not {kind(device)}"
    return ""


def gradient_types(device: str) -> tuple[torch.dtype, ...]:
    """The types of gradients that a scaler unscales on the device; float16 it refuses.

    GPUs have no kernel for bfloat16: https://github.com/pytorch/pytorch/issues/127176.
    """
    return tuple(
        dtype
        for dtype in floats(device)
        if dtype != torch.float16 and (dtype != torch.bfloat16 or kind(device) == "cpu")
    )


def scaler(device: str, **options: Any) -> Any:
    """A new scaler for the device."""
    options = {"init_scale": SCALE, **options}
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(kind(device), **options)
    return torch.cuda.amp.GradScaler(**options)


def started(device: str, **options: Any) -> Any:
    """A scaler that has scaled a loss, so that it has its scale on the device."""
    made = scaler(device, **options)
    made.scale(tensor(0.0, device))
    return made


class Parameters:
    """Parameters of several shapes, an empty one and one without a gradient among them."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32, salt: int = 0) -> None:
        self.device, self.dtype = device, dtype
        self.start = [integers(shape, 140 + salt + i) for i, shape in enumerate(_SHAPES)]
        self.own = [integers(shape, 150 + salt + i) for i, shape in enumerate(_SHAPES)]
        self.leaves = [tensor(each, device, dtype).requires_grad_() for each in self.start]
        self.unused = tensor(np.full(3, 4.0), device, dtype).requires_grad_()

    @property
    def all(self) -> list[torch.Tensor]:
        """All parameters, that without a gradient first."""
        return [self.unused, *self.leaves]

    def scaled(
        self, scale: float, bad: float | None = None, place: tuple[int, int] = (-1, -1)
    ) -> None:
        """Give them new gradients, scaled; `bad` is put at a place (parameter, flat index)."""
        given = [np.array(values * scale) for values in self.own]
        if bad is not None:
            given[place[0]].flat[place[1]] = bad
        for leaf, values in zip(self.leaves, given, strict=True):
            leaf.grad = tensor(values, self.device, self.dtype)

    def gradients(self, label: str, factor: float = 1.0) -> Iterator[Comparison]:
        """Compare the gradients with integers times a factor."""
        for i, (leaf, right) in enumerate(zip(self.leaves, self.own, strict=True)):
            found = leaf.grad
            yield compare_typed(f"{label} gradient {i})", found, self.dtype, factor * right)

    def stepped(self, label: str, rates: float | Sequence[float]) -> Iterator[Comparison]:
        """Compare the parameters after descents with these rates in sum."""
        for i, (leaf, before, own) in enumerate(
            zip(self.leaves, self.start, self.own, strict=True)
        ):
            right = before - np.sum(rates) * own
            yield compare_typed(f"{label} parameter {i})", leaf, self.dtype, right)
        yield compare_typed(f"{label} unused parameter)", self.unused, self.dtype, [4.0] * 3)


class Counting(torch.optim.SGD):
    """SGD that counts its steps."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, **{"lr": 0.5, **options})
        self.steps = 0

    def step(self, closure: Any = None) -> Any:
        """Count, and step."""
        self.steps += 1
        return super().step(closure)
