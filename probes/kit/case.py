"""A trial given as a table row: a call, its operands, and the expected output from NumPy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.references import compare
from probes.kit.tensors import poisoned
from probes.kit.trial import fact

Array = npt.NDArray[Any]

#: The NumPy type that holds every value of torch's.
NUMPY_OF: Final = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: np.float32,  # NumPy has no bfloat16: references hold what it can represent
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}

#: The opposite; float32 is torch's own.
TORCH_OF: Final = {
    np.dtype(kind): dtype for dtype, kind in NUMPY_OF.items() if dtype != torch.bfloat16
}
_WIDE = (np.dtype(np.float64), np.dtype(np.complex128))


@dataclass(frozen=True)
class Case:
    """A call and its expected output. Operands that are arrays are copied to the device.

    It is called twice, unless `once`: with contiguous operands, then with strided ones at an
    offset. The output memory is poisoned: `out` if the operation takes it, else memory freed just
    before the call.
    """

    operation: str  # looked up below `torch` at the call: "add", "linalg.solve", "Tensor.roll"
    operands: tuple[Any, ...]
    expected: tuple[Array, ...]
    allowed: Array | float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    out: bool = False  # takes out=
    factory: bool = False  # takes device=
    contiguous: bool = False  # called with contiguous operands only: it warns about strided ones
    dtype: torch.dtype | None = None  # of the real operands, where it differs from the arrays'
    once: bool = False  # called once, with contiguous operands

    def run(self, device: str) -> Iterator[Comparison]:
        """Call it with contiguous and with strided operands, and compare the outputs."""
        if not has_dtype(device, torch.float64) and self.is_wide():
            return
        call = attrgetter(self.operation)(torch)
        where = {"device": device} if self.factory else {}
        operands = [_operand_on_device(operand, device, self.dtype) for operand in self.operands]
        if not self.out:
            for each in self.expected:  # freed at once, so the output probably gets its memory
                poisoned(each.shape, self._torch_dtype(each), device)
        yield from self._comparisons(call(*operands, **self.options, **where), "first call")
        if self.once:
            return
        place = on_device if self.contiguous else strided
        operands = [
            _operand_on_device(operand, device, self.dtype, place) for operand in self.operands
        ]
        if self.out:
            outs = tuple(
                poisoned(each.shape, self._torch_dtype(each), device) for each in self.expected
            )
            call(*operands, **self.options, out=outs[0] if len(outs) == 1 else outs)
            yield from self._comparisons(outs, "strided operands, out=")
        elif not self.factory:
            yield from self._comparisons(call(*operands, **self.options), "strided operands")

    def is_wide(self) -> bool:
        """Whether an operand or expected output is float64 or complex128."""
        arrays = [*self.operands, *self.expected]
        arrays += [
            each for operand in self.operands if isinstance(operand, list) for each in operand
        ]
        return any(isinstance(array, np.ndarray) and array.dtype in _WIDE for array in arrays)

    def _torch_dtype(self, expected: Array) -> torch.dtype:
        if self.dtype == torch.bfloat16 and expected.dtype == np.float32:
            return torch.bfloat16
        return TORCH_OF[expected.dtype]

    def _comparisons(self, observed: Any, how: str) -> Iterator[Comparison]:
        outputs = observed if isinstance(observed, (tuple, list)) else (observed,)
        kind = _name(self.dtype or self.expected[0].dtype)
        label = f"{self.operation} ({kind}, {how}{_options_text(self.options)})"
        if len(outputs) != len(self.expected):
            problem = f"{len(outputs)} outputs where {len(self.expected)} are right"
            yield Comparison(operation=label, problem=problem)
            return
        for output, expected in zip(outputs, self.expected, strict=True):
            right = self._torch_dtype(expected)
            if right == torch.bfloat16 or (self.allowed is not None and output.dtype != right):
                yield fact(label, str(output.dtype), str(right))
            yield compare(label, output, expected, self.allowed)


def case(
    operation: str,
    operands: tuple[Any, ...],
    expected: Array | tuple[Array, ...],
    allowed: Array | float | None = None,
    **options: Any,
) -> Case:
    """A `Case` whose operation takes `out=`."""
    return Case(operation, operands, _answers(expected), allowed, options, out=True)


def plain(
    operation: str,
    operands: tuple[Any, ...],
    expected: Array | tuple[Array, ...],
    allowed: Array | float | None = None,
    **options: Any,
) -> Case:
    """A `Case` whose operation does not take `out=`."""
    return Case(operation, operands, _answers(expected), allowed, options)


def once(
    operation: str,
    operands: tuple[Any, ...],
    expected: Array | tuple[Array, ...],
    allowed: Array | float | None = None,
    **options: Any,
) -> Case:
    """A `Case` that is called once, with contiguous operands."""
    return Case(operation, operands, _answers(expected), allowed, options, once=True)


def _answers(expected: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return expected if isinstance(expected, tuple) else (np.asarray(expected),)


def in_dtype(each: Case, dtype: torch.dtype) -> Case:
    """The case with its floating arrays, operands and expected outputs, in another type."""
    kind = NUMPY_OF[dtype]

    def cast(value: Any) -> Any:
        if isinstance(value, list):
            return [cast(item) for item in value]
        floating = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return value.astype(kind) if floating else value

    operands = tuple(cast(operand) for operand in each.operands)
    return replace(each, operands=operands, expected=tuple(map(cast, each.expected)), dtype=dtype)


def on_device(array: Array, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A copy of the array as a tensor on the device."""
    return torch.from_numpy(array.copy()).to(device, dtype)


def strided(array: Array, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A view with the array's elements at every second place, with NaN or 1 in between."""
    if array.ndim == 0:
        return on_device(array, device, dtype)
    wide = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = np.nan if array.dtype.kind in "fc" else 1
    wide[..., 1::2] = array
    return on_device(wide, device, dtype)[..., 1::2]


def _operand_on_device(
    operand: Any,
    device: str,
    dtype: torch.dtype | None,
    place: Callable[..., torch.Tensor] = on_device,
) -> Any:
    if isinstance(operand, np.ndarray):
        real = dtype is not None and operand.dtype.type is NUMPY_OF[dtype]
        return place(operand, device, dtype if real else None)
    if isinstance(operand, list) and operand and isinstance(operand[0], np.ndarray):
        return [_operand_on_device(item, device, dtype, place) for item in operand]
    return operand


@cache
def _name(dtype: "torch.dtype | np.dtype[Any]") -> str:
    """A type's name, the same for torch's and NumPy's; NumPy puts it together at each call."""
    return str(dtype).removeprefix("torch.")


def _options_text(options: dict[str, Any]) -> str:
    return "".join([f", {name}={value}" for name, value in options.items()]) if options else ""
