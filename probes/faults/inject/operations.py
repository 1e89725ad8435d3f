"""Operations of torch that lie, raise or hang, below everything that a probe calls.

A dispatch mode sees every operation of its thread, forward and backward. So that it is alive
wherever a probe computes, it is entered in each thread that starts later, and a backward runs in
the thread that asks for it instead of in one of the engine's own.
"""

import ctypes
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from probes.faults.inject.patterns import Pattern, pattern
from probes.faults.inject.replaced import replace
from probes.worker import attempt

_LARGE: Final = 2**18  # elements: more than the blocks of one launch, and than a small buffer


@dataclass(frozen=True)
class When:
    """On which calls of an operation: all of them unless something is asked for."""

    first: int = 0  # that many calls only
    after: int = 0  # not on that many first calls
    every: int = 1  # one in so many
    large: bool = False
    dtype: str = ""

    def due(self, call: int, out: torch.Tensor) -> bool:
        """Whether a call, counted from 0, is to be spoiled in this output."""
        in_turn = call >= self.after and (call - self.after) % self.every == 0
        return (
            in_turn
            and (not self.first or call < self.first)
            and (not self.large or out.numel() > _LARGE)
            and (not self.dtype or str(out.dtype) == f"torch.{self.dtype}")
        )


class Tally:
    """What came of a fault here: one that nothing was called for has proven nothing."""

    def __init__(self) -> None:
        self.seen = 0  # operations that passed the mode, and
        self.matched = 0  # those of them that the fault is about
        self.calls = 0  # that count for its turns


TALLY: Final = Tally()

#: Older torch keeps no reference of its own, and crashes where it prints a tensor.
_ENTERED: Final[list[object]] = []

#: Calls an operation in its own way: (operation, arguments, named arguments) -> output.
Behaviour = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


class Behaving(TorchDispatchMode):
    """Has some operations, or all, done in another way."""

    def __init__(self, operators: frozenset[str], behave: Behaviour) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operators = operators
        self._behave = behave

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; the import that would keep it so takes half a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do what is asked, or have it done in the other way."""
        TALLY.seen += 1
        if self._operators and func._schema.name not in self._operators:
            return func(*args, **(kwargs or {}))
        TALLY.matched += 1
        return self._behave(func, args, kwargs or {})


def everywhere(operators: Iterable[str], behave: Behaviour) -> None:
    """Have operations done in another way in this thread and in all that start from now on."""
    named = frozenset(f"aten::{name}" for name in operators)

    def enter() -> None:
        torch.autograd.set_multithreading_enabled(False)
        mode: Any = Behaving(named, behave)
        mode.__enter__()
        _ENTERED.append(mode)

    enter()

    def also_here(run: Any) -> Any:
        def running(thread: threading.Thread) -> None:
            enter()
            run(thread)

        return running

    replace(threading.Thread, "run", also_here)


def _tensors(outputs: Any) -> Iterable[torch.Tensor]:
    listed = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return (out for out in listed if isinstance(out, torch.Tensor) and out.numel())


def wrong(operators: tuple[str, ...], spoil: str, by: float = 1.0, **when: Any) -> None:
    """Spoil the first output that the pattern applies to; all, where nothing was written."""
    whole = spoil in {"zeros", "garbage", "stale"}
    spoiling: Pattern = pattern(spoil, by)
    condition = When(**when)

    def behave(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = func(*args, **kwargs)
        call, TALLY.calls = TALLY.calls, TALLY.calls + 1
        for out in _tensors(outputs):
            if condition.due(call, out) and spoiling(out) and not whole:
                break
        return outputs

    everywhere(operators, behave)


def shortened(operators: tuple[str, ...], bits: int) -> None:
    """Round float32 operands to fewer bits of fraction, as TF32 (10) does."""
    drop = 23 - bits

    def rounded(value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.dtype == torch.float32):
            return value
        words = value.contiguous().view(torch.int32)
        return ((words + (1 << (drop - 1))) & -(1 << drop)).view(torch.float32)

    def behave(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*(rounded(each) for each in args), **kwargs)

    everywhere(operators, behave)


def noisy(operators: tuple[str, ...]) -> None:
    """The last bit at random: the same inputs give other bits each time."""

    def behave(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        bits = torch.randint(0, 2, out.shape, device="cpu").to(out.device)
        return out * (1 + bits * 2.0**-23)

    everywhere(operators, behave)


def raises(
    operators: tuple[str, ...], text: str, *, memory: bool = False, sticky: bool = False
) -> None:
    """Raise torch's own kind of error; `sticky` from then on in every operation."""
    kind: type[Exception] = torch.cuda.OutOfMemoryError if memory else RuntimeError
    broken: list[bool] = []

    def behave(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if broken or func._schema.name.removeprefix("aten::") in operators:
            broken.extend([True] if sticky else [])
            raise kind(text)
        return func(*args, **kwargs)

    everywhere(() if sticky else operators, behave)
    if sticky:
        _poison_the_device(broken, text)


def _poison_the_device(broken: list[bool], text: str) -> None:
    """A device in which one kernel failed gives the same error when it is waited for."""

    def failing(wait: Any) -> Any:
        def synchronize(device: str) -> None:
            if broken:
                raise RuntimeError(text)
            wait(device)

        return synchronize

    replace(attempt, "synchronize", failing)


def hangs(*, holding_the_lock: bool) -> None:
    """The first operation never returns, with or without the interpreter's lock."""
    library = ctypes.PyDLL(None) if holding_the_lock else ctypes.CDLL(None)

    def behave(_func: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
        while True:
            library.sleep(600)
            time.sleep(0)

    everywhere((), behave)


def does(operators: tuple[str, ...], act: Callable[[], object]) -> None:
    """Act before an operation, or before every one."""

    def behave(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        act()
        return func(*args, **kwargs)

    everywhere(operators, behave)


def idle() -> None:
    """Look at every operation and change nothing: the control of all that is injected here."""
    does((), lambda: None)
