"""How one operation is tried: called on known operands, held against NumPy, element by element."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison
from probes.references import compare
from probes.tensors import poisoned, refusal, synchronize

Array = npt.NDArray[Any]

#: What a call may raise and be reported as itself. Out of memory is not the operation's fault.
_RAISED = (
    *(RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError),
    *(ArithmeticError, KeyError),
)
_NUMPY_OF = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: np.float32,  # NumPy has no bfloat16: references hold what it can represent
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}
_WIDE = (np.dtype(np.float64), np.dtype(np.complex128))


class Trial(Protocol):
    """One operation, and how to try it on a device."""

    @property
    def operation(self) -> str:
        """What torch calls it."""

    def run(self, device: str) -> Iterator[Comparison]:
        """Try it; may raise what torch raises."""


@dataclass(frozen=True)
class Custom:
    """A trial that no table fits."""

    operation: str
    body: Callable[[str], Iterable[Comparison]]

    def run(self, device: str) -> Iterator[Comparison]:
        """Try it."""
        yield from self.body(device)


@dataclass(frozen=True)
class Case:
    """A call and its right answer. Operands that are arrays go to the device, others as they are.

    Called twice: first on contiguous operands, then on strided ones with an offset. The output is
    poisoned: `out` where there is one, else memory that was freed a moment before the first call.
    """

    operation: str  # looked up below `torch` at the call: "add", "linalg.solve", "Tensor.roll"
    operands: tuple[Any, ...]
    expected: tuple[Array, ...]
    allowed: Array | float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    out: bool = False  # takes out=
    factory: bool = False  # takes device=
    contiguous: bool = False  # warns about strided operands, so it gets none
    dtype: torch.dtype | None = None  # of the real operands, where it is not the arrays' own

    def run(self, device: str) -> Iterator[Comparison]:
        """Call it both ways."""
        if not has_double(device) and self.is_wide():
            return
        call = attrgetter(self.operation)(torch)
        where = {"device": device} if self.factory else {}
        operands = [_placed(operand, device, self.dtype) for operand in self.operands]
        if not self.out:
            for each in self.expected:  # freed at once: the output is likely to get its memory
                poisoned(each.shape, self._torch_dtype(each), device)
        yield from self._judge(call(*operands, **self.options, **where), "first call")
        place = placed if self.contiguous else strided
        operands = [_placed(operand, device, self.dtype, place) for operand in self.operands]
        if self.out:
            outs = tuple(
                poisoned(each.shape, self._torch_dtype(each), device) for each in self.expected
            )
            call(*operands, **self.options, out=outs[0] if len(outs) == 1 else outs)
            yield from self._judge(outs, "strided, out=")
        elif not self.factory:
            yield from self._judge(call(*operands, **self.options), "strided")

    def is_wide(self) -> bool:
        """Whether float64 or complex128 takes part."""
        arrays = [*self.operands, *self.expected]
        arrays += [
            each for operand in self.operands if isinstance(operand, list) for each in operand
        ]
        return any(isinstance(array, np.ndarray) and array.dtype in _WIDE for array in arrays)

    def _torch_dtype(self, expected: Array) -> torch.dtype:
        if self.dtype == torch.bfloat16 and expected.dtype == np.float32:
            return torch.bfloat16
        return torch.from_numpy(np.empty(0, expected.dtype)).dtype

    def _judge(self, observed: Any, how: str) -> Iterator[Comparison]:
        outputs = observed if isinstance(observed, (tuple, list)) else (observed,)
        kind = f"{self.dtype}".removeprefix("torch.") if self.dtype else f"{self.expected[0].dtype}"
        label = f"{self.operation} ({kind}, {how}{_spelled(self.options)})"
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
    """A case whose operation takes `out=`."""
    return replace(plain(operation, operands, expected, allowed, **options), out=True)


def plain(
    operation: str,
    operands: tuple[Any, ...],
    expected: Array | tuple[Array, ...],
    allowed: Array | float | None = None,
    **options: Any,
) -> Case:
    """A case whose operation has no `out=`."""
    answers = expected if isinstance(expected, tuple) else (np.asarray(expected),)
    return Case(operation, operands, answers, allowed, options)


def in_dtype(each: Case, dtype: torch.dtype) -> Case:
    """The same case with its floating arrays, operands and answers, in another type."""
    kind = _NUMPY_OF[dtype]

    def cast(value: Any) -> Any:
        if isinstance(value, list):
            return [cast(item) for item in value]
        floating = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
        return value.astype(kind) if floating else value

    operands = tuple(cast(operand) for operand in each.operands)
    return replace(each, operands=operands, expected=tuple(map(cast, each.expected)), dtype=dtype)


def fact(operation: str, observed: object, expected: object) -> Comparison:
    """One plain value held against the right one."""
    problem = "" if observed == expected else f"{observed!r} where {expected!r} is right"
    return Comparison(operation=operation, elements=1, problem=problem)


def refused(operation: str, call: Callable[[], object], *types: str) -> Comparison:
    """A call that must raise, and one of these types."""
    raised = refusal(call).partition(":")[0]
    problem = (
        "" if raised in types else f"raised {raised or 'nothing'}, {' or '.join(types)} is right"
    )
    return Comparison(operation=operation, elements=1, problem=problem)


def placed(array: Array, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The array's elements in a tensor of its own on the device."""
    return torch.from_numpy(array.copy()).to(device, dtype)


def strided(array: Array, device: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The same elements at every second place from the second on, with NaN or junk between."""
    if array.ndim == 0:
        return placed(array, device, dtype)
    wide = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = np.nan if np.issubdtype(array.dtype, np.inexact) else 1
    wide[..., 1::2] = array
    return placed(wide, device, dtype)[..., 1::2]


def has_double(device: str) -> bool:
    """Whether the device computes in float64. CPU, CUDA and HIP do; elsewhere it is tried."""
    if torch.device(device).type in {"cpu", "cuda"}:
        return True
    return not refusal(lambda: torch.zeros(1, dtype=torch.float64, device=device).add_(1.0))


def floats(device: str) -> tuple[torch.dtype, ...]:
    """The floating types that the device has."""
    wide = (torch.float64,) if has_double(device) else ()
    return (torch.float32, *wide, torch.float16, torch.bfloat16)


def run(trials: Iterable[Trial], device: str) -> tuple[tuple[Comparison, ...], bool]:
    """Try all; one comparison an operation, the first wrong one where there is any.

    The second value says whether the back-end lacks some of them, as it may.
    """
    elements: dict[str, int] = {}
    wrong: dict[str, Comparison] = {}
    lacking = False
    for trial in trials:
        found, lacks = _tried(trial, device)
        lacking |= lacks
        for each in found:
            name = each.operation.partition(" (")[0]
            elements[name] = elements.get(name, 0) + each.elements
            if not each.holds:
                wrong.setdefault(name, each)
    right = (Comparison(operation=name, elements=count) for name, count in elements.items())
    return tuple(wrong.get(each.operation, each) for each in right), lacking


def _tried(trial: Trial, device: str) -> tuple[list[Comparison], bool]:
    found: list[Comparison] = []
    try:
        found.extend(trial.run(device))
    except torch.cuda.OutOfMemoryError:
        raise
    except _RAISED as error:
        synchronize(device)  # a poisoned context raises here, and ends the probe as itself
        if _may_lack(error, device):
            return found, True
        text = (str(error).splitlines() or [""])[0][:200]
        problem = f"raised {type(error).__name__}: {text}"
        found.append(Comparison(operation=trial.operation, problem=problem))
    return found, False


def _may_lack(error: Exception, device: str) -> bool:
    """Whether an operation that is not implemented is no fault.

    CPU and CUDA have to have them all, but older torch had few for half types on the CPU.
    """
    kind, text = torch.device(device).type, str(error)
    if not isinstance(error, NotImplementedError) and "not implemented for" not in text:
        return False
    half = "'Half'" in text or "'BFloat16'" in text
    return half if kind == "cpu" else kind != "cuda"


def _placed(
    operand: Any,
    device: str,
    dtype: torch.dtype | None,
    place: Callable[..., torch.Tensor] = placed,
) -> Any:
    if isinstance(operand, list) and operand and isinstance(operand[0], np.ndarray):
        return [_placed(item, device, dtype, place) for item in operand]
    if not isinstance(operand, np.ndarray):
        return operand
    real = dtype is not None and operand.dtype == _NUMPY_OF[dtype]
    return place(operand, device, dtype if real else None)


def _spelled(options: dict[str, Any]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())
