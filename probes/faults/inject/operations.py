"""Makes operations of torch return wrong values, raise or hang, below the calls of a probe.

A dispatch mode sees every operation of its thread, forward and backward. To be in force wherever a
probe computes, it is entered in each thread that starts later, and a backward runs in the thread
that calls it, not in one of the engine's threads.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.faults.inject.patterns import Pattern, pattern
from probes.faults.inject.replaced import replace
from probes.worker import framework

_LARGE: Final = 2**18  # elements: more than one launch's blocks, and than a small buffer


@dataclass(frozen=True)
class When:
    """Which calls of an operation a fault applies to: all, unless a field is set."""

    first: int = 0  # only the first calls, so many
    after: int = 0  # not the first calls, so many
    every: int = 1  # one call in so many
    large: bool = False
    dtype: str = ""

    def is_about(self, outputs: Sequence[torch.Tensor]) -> bool:
        """Whether one of a call's outputs is of the type that the fault is about."""
        return any(not self.dtype or str(out.dtype) == f"torch.{self.dtype}" for out in outputs)

    def applies(self, call: int, out: torch.Tensor) -> bool:
        """Whether the fault applies to this output of a call, counted from 0."""
        in_turn = call >= self.after and (call - self.after) % self.every == 0
        return (
            in_turn
            and (not self.first or call < self.first)
            and (not self.large or out.numel() > _LARGE)
            and self.is_about([out])
        )


class Tally:
    """Counts operations: a fault whose operations were never called has tested nothing."""

    def __init__(self) -> None:
        self.seen = 0  # operations that the mode saw
        self.matched = 0  # those that the fault applies to
        self.calls = 0  # calls counted for `When`


TALLY: Final = Tally()

#: Keeps the modes alive: older torch holds no reference, and crashes when it prints a tensor.
_ENTERED: Final[list[object]] = []

#: Replaces an operation: (operation, arguments, keyword arguments) -> output.
Handler = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


class Interceptor(TorchDispatchMode):
    """Calls a handler in place of some operations, or of all."""

    def __init__(self, operators: frozenset[str], handler: Handler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operators = operators
        self._handler = handler

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; the default would import the compiler, half a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the operation, or the handler in its place."""
        TALLY.seen += 1
        if self._operators and func._schema.name not in self._operators:
            return func(*args, **(kwargs or {}))
        TALLY.matched += 1
        return self._handler(func, args, kwargs or {})


def intercept(operators: Iterable[str], handler: Handler) -> None:
    """Call a handler in place of operations, in this thread and in all that start later."""
    names = frozenset(f"aten::{name}" for name in operators)

    def enter() -> None:
        torch.autograd.set_multithreading_enabled(False)
        mode: Any = Interceptor(names, handler)
        mode.__enter__()
        _ENTERED.append(mode)

    enter()

    def entering(run: Any) -> Any:
        def running(thread: threading.Thread) -> None:
            enter()
            run(thread)

        return running

    replace(threading.Thread, "run", entering)


def tensors(outputs: Any) -> list[torch.Tensor]:
    """The tensors of an operation's outputs that hold something."""
    listed = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return [out for out in listed if isinstance(out, torch.Tensor) and out.numel()]


def results(outputs: Any, arguments: tuple[Any, ...]) -> Any:
    """What an operation computed; one that returns nothing writes to its first argument."""
    returned = not (outputs is None or (isinstance(outputs, tuple) and not outputs))
    return outputs if returned or not arguments else arguments[0]


def wrong(operators: tuple[str, ...], spoil: str, by: float = 1.0, **when: Any) -> None:
    """Spoil the first output that the pattern applies to; all outputs for an unwritten result."""
    all_outputs = spoil in {"zeros", "garbage", "stale"}
    spoil_output: Pattern = pattern(spoil, by)
    condition = When(**when)

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = func(*args, **kwargs)
        call, TALLY.calls = TALLY.calls, TALLY.calls + 1
        found = tensors(results(outputs, args))
        if not condition.is_about(found):
            TALLY.matched -= 1  # a call of other types was counted before it was made
        for out in found:
            if condition.applies(call, out) and spoil_output(out) and not all_outputs:
                break
        return outputs

    intercept(operators, handler)


def shortened(operators: tuple[str, ...], bits: int) -> None:
    """Round float32 operands to fewer bits of fraction, as TF32 (10) does."""
    drop = 23 - bits

    def rounded(value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.dtype == torch.float32):
            return value
        words = value.contiguous().view(torch.int32)
        return ((words + (1 << (drop - 1))) & -(1 << drop)).view(torch.float32)

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*(rounded(each) for each in args), **kwargs)

    intercept(operators, handler)


def wrapped_indices(operators: tuple[str, ...], bits: int) -> None:
    """Take indices modulo 2^bits."""

    def wrap(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(wrap(each) for each in value)
        is_index = isinstance(value, torch.Tensor) and value.dtype == torch.int64
        return value % 2**bits if is_index else value

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(args[0], *(wrap(each) for each in args[1:]), **kwargs)

    intercept(operators, handler)


_HALVES: Final = (torch.float16, torch.bfloat16)


def _terms(name: str, args: tuple[Any, ...]) -> torch.Tensor:
    """The terms that an operation adds up, in its type, along the first axis.

    Shapes: products (..., M, K) and (..., K, N) -> (K, ..., M, N); a sum over one axis.
    """
    if name == "sum":
        (axis,) = args[1]
        return args[0].movedim(axis, 0)  # type: ignore[no-any-return]
    left, right = args[-2:]
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).movedim(-2, 0)  # type: ignore[no-any-return]


def half_sums(operators: tuple[str, ...]) -> None:
    """Add up the terms of half types one after another in the half type itself."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        if out.dtype in _HALVES and out.dim():
            total = torch.zeros_like(out)
            for term in _terms(func._schema.name.removeprefix("aten::"), args):
                total += term.reshape(out.shape)
            out.copy_(total)
        return out

    intercept(operators, handler)


def noisy(operators: tuple[str, ...]) -> None:
    """Make the last bit random, so that equal inputs give different bits."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        bits = torch.randint(0, 2, out.shape, device="cpu").to(out.device)
        return out * (1 + bits * 2.0**-23)

    intercept(operators, handler)


def raises(
    operators: tuple[str, ...], text: str, *, memory: bool = False, sticky: bool = False
) -> None:
    """Raise torch's kind of error in these operations; `sticky`: afterwards in all operations."""
    kind: type[Exception] = torch.cuda.OutOfMemoryError if memory else RuntimeError
    broken: list[bool] = []

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if broken or func._schema.name.removeprefix("aten::") in operators:
            broken.extend([True] if sticky else [])
            raise kind(text)
        return func(*args, **kwargs)

    intercept(() if sticky else operators, handler)
    if sticky:
        _fail_synchronize(broken, text)


def _fail_synchronize(broken: list[bool], text: str) -> None:
    """Make `synchronize` raise the same error after a kernel failed."""

    def failing(wait: Any) -> Any:
        def synchronize(device: str) -> None:
            if broken:
                raise RuntimeError(text)
            wait(device)

        return synchronize

    replace(framework, "synchronize", failing)


def hangs(*, holding_the_lock: bool) -> None:
    """Make the first operation hang, with or without holding the interpreter's lock."""
    library = ctypes.PyDLL(None) if holding_the_lock else ctypes.CDLL(None)

    def handler(_func: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        while True:
            library.sleep(600)
            time.sleep(0)

    intercept((), handler)


def act_before(operators: tuple[str, ...], act: Callable[[], object]) -> None:
    """Call `act` before these operations, or before every operation."""

    def handler(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        act()
        return func(*args, **kwargs)

    intercept(operators, handler)


def idle() -> None:
    """Intercept every operation and change nothing: the control for faults of operations."""
    act_before((), lambda: None)
