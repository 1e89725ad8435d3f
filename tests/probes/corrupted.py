"""Operations of torch with a spoiled result, in forward and in backward."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Corrupted(TorchDispatchMode):
    """Spoils the first floating output of one operation, in forward and in backward."""

    def __init__(
        self,
        operation: str,
        spoil: Callable[[torch.Tensor], None],
        when: Callable[[int, torch.Tensor], bool] = lambda _call, _output: True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation, self.spoil, self.when = operation, spoil, when
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation, then spoil its output."""
        outputs = func(*args, **(kwargs or {}))
        if func._schema.name != f"aten::{self.operation}":
            return outputs
        for output in outputs if isinstance(outputs, (tuple, list)) else (outputs,):
            if isinstance(output, torch.Tensor) and output.is_floating_point() and output.numel():
                if self.when(self.calls, output):
                    self.spoil(output)
                self.calls += 1
                break
        return outputs


def scaled(factor: float) -> Callable[[torch.Tensor], None]:
    """Be wrong by a factor."""

    def scale(output: torch.Tensor) -> None:
        output.mul_(factor)

    return scale


def zeros(output: torch.Tensor) -> None:
    """Give zeros."""
    output.zero_()


def nan(output: torch.Tensor) -> None:
    """Give a NaN in the last place."""
    output.view(-1)[-1] = float("nan")


def one_bit(output: torch.Tensor) -> None:
    """Flip the lowest bit of the last float32."""
    if output.dtype == torch.float32:
        flat = output.view(-1)
        flat[-1:].view(torch.int32).bitwise_xor_(1)


def swapped(output: torch.Tensor) -> None:
    """Reverse the first three elements."""
    flat = output.view(-1)
    if flat.numel() > 2:
        flat[:3] = flat[:3].flip(0).clone()


def shifted(output: torch.Tensor) -> None:
    """Move each element by one along the last axis."""
    output.copy_(output.roll(1, -1))


def of(dtype: torch.dtype) -> Callable[[int, torch.Tensor], bool]:
    """Only outputs of one type."""
    return lambda _call, output: output.dtype == dtype
