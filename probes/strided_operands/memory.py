"""Tensors of given layouts on a device, in buffers whose other elements are watched."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit.case import NUMPY_OF, Array
from probes.kit.operands import integers
from probes.kit.references import compare
from probes.kit.tensors import bits, poisoned
from probes.strided_operands.places import Place, Shape, place

#: The type of references: wide enough for each value and partial sum.
_WIDE: Final = {torch.complex64: np.complex128, torch.complex128: np.complex128}

_HALVES: Final = {torch.float16, torch.bfloat16}


@dataclass(frozen=True)
class Operand:
    """A tensor operand: its shape, the integers that it holds, and its type."""

    shape: Shape
    low: int = -8
    high: int = 8
    dtype: torch.dtype | None = None  # None: the type under test
    #: Whether a matrix unit of the CPU reads on behind each row, times zero: with AMX products of
    #: bfloat16 do so in torch 2.9 to 2.13 at least, and what is not finite there makes NaN.
    read_on: bool = False

    def of(self, dtype: torch.dtype) -> torch.dtype:
        """Its type where that type is tested."""
        return self.dtype or dtype


@dataclass(frozen=True)
class Placed:
    """A tensor in its buffer, and the values that it holds."""

    array: Array  # of the tensor's shape; floating values in float64
    tensor: torch.Tensor
    buffer: torch.Tensor  # (size,)
    place: Place
    before: npt.NDArray[np.unsignedinteger]  # the bits of the buffer

    def changed(self, operation: str, expected: Array, allowed: Any = None) -> Iterator[Comparison]:
        """The tensor holds these values now, and nothing around it has changed.

        The label `operation` has an open parenthesis.
        """
        host = self.buffer.detach().cpu()
        values = (host.float() if host.dtype == torch.bfloat16 else host).numpy()
        yield compare(f"{operation})", values[self.place.index()], expected, allowed)
        around, now = self.place.around(), bits(host).copy()
        if host.is_floating_point():
            # Atomics of half types add zero to a neighbour: NaN stays NaN, with bits of its own.
            still = np.isnan(values) & torch.isnan(self._as_before(host)).numpy()
            now[still] = self.before[still]
        yield compare(f"{operation}, around it)", now[around], self.before[around])

    def _as_before(self, host: torch.Tensor) -> torch.Tensor:
        """The buffer's values before the call."""
        return torch.from_numpy(self.before.copy().view(np.uint8)).view(host.dtype)

    def unchanged(self, operation: str) -> Comparison:
        """The whole buffer is as it was."""
        return compare(operation, bits(self.buffer), self.before)


def place_values(
    operand: Operand, layout: str, dtype: torch.dtype, device: str, salt: int
) -> Placed:
    """A new operand with NaN around it.

    With more numbers of its range around integers, and around what the CPU reads on behind.
    """
    where, kind = place(operand.shape, layout), operand.of(dtype)
    wide = _WIDE.get(kind, np.float64 if kind.is_floating_point else NUMPY_OF[kind])
    values: Array = integers((where.size,), operand.low, operand.high, salt).astype(wide)
    if kind.is_complex:
        values = values + 1j * integers((where.size,), operand.low, operand.high, salt + 1)
    array = values[where.index()]
    read_on = operand.read_on and kind in _HALVES and torch.device(device).type == "cpu"
    if (kind.is_floating_point or kind.is_complex) and not read_on:
        values[where.around()] = np.nan
    # Converted on the host: not every device has float64.
    buffer = torch.from_numpy(values).to(kind, copy=True)
    return _placed(array, buffer, where, device)


def place_poison(shape: Shape, layout: str, dtype: torch.dtype, device: str) -> Placed:
    """An output that nothing has been written to."""
    where = place(shape, layout)
    return _placed(np.empty(0), poisoned((where.size,), dtype, "cpu"), where, device)


def _placed(array: Array, buffer: torch.Tensor, where: Place, device: str) -> Placed:
    before = bits(buffer).copy()
    buffer = buffer.to(device)
    tensor = buffer.as_strided(where.shape, where.strides, where.offset)
    return Placed(array, tensor, buffer, where, before)


class Stock:
    """The operands of a family, each made once; no operation may change them."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._placed: dict[tuple[Any, ...], Placed] = {}

    def get(self, operand: Operand, layout: str, dtype: torch.dtype, salt: int = 0) -> Placed:
        """The operand in that layout."""
        key = (operand, layout, operand.of(dtype), salt)
        if key not in self._placed:
            self._placed[key] = place_values(operand, layout, dtype, self.device, 20 + 2 * salt)
        return self._placed[key]

    def unchanged(self, _device: str) -> Iterator[Comparison]:
        """No operand was written to."""
        for (operand, layout, dtype, _), placed in self._placed.items():
            yield placed.unchanged(f"operands ({str(dtype)[6:]} {operand.shape}, {layout})")


def dense_on_cpu(x: torch.Tensor) -> torch.Tensor:
    """The operand; on the CPU a contiguous one, where every release up to 2.13 misreads others.

    What is wrong in all of them at all times says nothing about this image or this machine.
    """
    return x.contiguous() if x.device.type == "cpu" else x
