"""Ways to spoil the outputs of one operator, in the patterns that sick hardware shows."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.faults.inject.patterns import narrowed
from tests.probes.verdicts import tripped_checks

Fault = Callable[[torch.Tensor], object]  # spoils an output, in place


def tripped_families(probe: ModuleType, *families: str) -> set[str]:
    """The names of the checks of a probe that trip, of the given families only, to save time."""
    chosen = {name: probe.FAMILIES[name] for name in families}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "FAMILIES", chosen)
        return tripped_checks(probe.judge(probe.observe("cpu")))


class Corrupt(TorchDispatchMode):
    """Spoils every output of one operator, in all its overloads.

    An operator that returns nothing writes to its first argument.
    """

    def __init__(self, operator: str, fault: Fault, *, calls: range = range(10**9)) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator, self.fault, self.calls = operator, fault, calls
        self.count = 0
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator, then spoil its output."""
        out = func(*args, **(kwargs or {}))
        if self.inside or func.overloadpacket._qualified_op_name != f"aten::{self.operator}":
            return out
        self.inside = True
        if self.count in self.calls:
            written = args[0] if not func._schema.returns else out
            for each in written if isinstance(written, (tuple, list)) else (written,):
                if isinstance(each, torch.Tensor) and each.numel():
                    self.fault(each)
        self.count += 1
        self.inside = False
        return out


def corrupted_operators(rows: Sequence[tuple[str, Fault, str]]) -> pytest.MarkDecorator:
    """Parametrize a test by operator, fault and families, named by all three."""
    names = [f"{operator.strip('_')}-{fault.__name__}-{where}" for operator, fault, where in rows]
    return pytest.mark.parametrize(("operator", "fault", "families"), rows, ids=names)


def assert_trips(
    probe: ModuleType, operator: str, fault: Fault, families: str, *, tried: str = ""
) -> None:
    """A wrong kernel is called, and trips the checks of these families, without an error.

    `families` are separated by spaces and are all that is tried, but for those in `tried`.
    """
    with Corrupt(operator, fault) as corrupt:
        found = tripped_families(probe, *families.split(), *tried.split())

    assert corrupt.count > 0, f"{operator} was never called"
    assert found == set(families.split())


class InSingle(TorchDispatchMode):
    """Computes one operation on float64 operands in float32; counts its calls."""

    def __init__(self, operator: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator, self.count = operator, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Round operands and results to float32."""
        if func._schema.name != f"aten::{self.operator}":
            return func(*args, **(kwargs or {}))
        self.count += 1
        out = func(*map(self._operand, args), **(kwargs or {}))
        written = out if func._schema.returns else args[0]
        for each in written if isinstance(written, (tuple, list)) else (written,):
            if each.dtype in {torch.float64, torch.complex128}:
                narrowed(each)
        return out

    def _operand(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._operand(each) for each in value]
        wide = isinstance(value, torch.Tensor) and value.dtype == torch.float64
        return value.float().double() if wide else value


def last(tensor: torch.Tensor) -> torch.Tensor:
    """The last element, as a view."""
    return tensor[tuple(slice(-1, None) for _ in tensor.shape)]


def zeros(out: torch.Tensor) -> None:
    """Set all to zero: the kernel wrote nothing, and its memory was zero."""
    out.zero_()


def slightly_larger(out: torch.Tensor) -> None:
    """Multiply by 1.001."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(1.001)


def slightly_smaller(out: torch.Tensor) -> None:
    """Multiply by 0.999."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(0.999)


def five_per_cent(out: torch.Tensor) -> None:
    """Multiply by 1.05."""
    if out.is_floating_point():
        out.mul_(1.05)


def one_element(out: torch.Tensor) -> None:
    """Move the last element by 5 % of the largest."""
    if out.is_floating_point():
        last(out).add_(0.05 * max(float(out.abs().max()), 0.1))


def large_only(out: torch.Tensor) -> None:
    """Multiply by 1.05 what has more than 8,192 elements."""
    if out.is_floating_point() and out.numel() > 8192:
        out.mul_(1.05)


def lowest_bit(out: torch.Tensor) -> None:
    """Flip the lowest bit of the last element."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    end = last(out)
    end.copy_((end.clone().view(kinds[out.element_size()]) ^ 1).view(out.dtype))


def nan(out: torch.Tensor) -> None:
    """Set the last element to NaN."""
    if out.is_floating_point() or out.is_complex():
        last(out).fill_(float("nan"))


def swapped(out: torch.Tensor) -> None:
    """Exchange the last two elements in memory."""
    pair = out.reshape(-1)[-2:].flip(0)
    if out.numel() > 1 and out.is_contiguous():
        out.view(-1)[-2:] = pair


def shifted(out: torch.Tensor) -> None:
    """Move every element by one: an address that is off by one."""
    out.copy_(out.reshape(-1).roll(1).reshape(out.shape))


def flipped(out: torch.Tensor) -> None:
    """Negate the last element as a boolean."""
    last(out).logical_not_()
