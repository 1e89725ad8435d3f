"""How trials are run: one operation each, tried on a device, and what came of it."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.capabilities import lacks
from probes.kit.tensors import synchronize

#: What a call may raise and be reported as itself. Out of memory is not the operation's fault.
_RAISED = (
    *(RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError),
    *(ArithmeticError, KeyError),
)

#: How torch refuses an argument. Which of them is a matter of the back-end, where it is not said.
_REFUSALS = ("RuntimeError", "ValueError", "IndexError", "TypeError")

#: What a device or library that failed says: a RuntimeError as well, and no refusal.
_BROKEN = re.compile(r"_STATUS_|\b(CUDA|HIP|UR|MPS backend) (error|out of memory)|DEVICE_LOST")


class Trial(Protocol):
    """One operation, and how to try it on a device."""

    @property
    def operation(self) -> str:
        """What torch calls it."""

    @property
    def dtype(self) -> torch.dtype | None:
        """The floating type of its operands, where it is one type throughout."""

    def run(self, device: str) -> Iterator[Comparison]:
        """Try it; may raise what torch raises."""


@dataclass(frozen=True)
class Custom:
    """A trial that no table fits."""

    operation: str
    body: Callable[[str], Iterable[Comparison]]
    dtype: torch.dtype | None = None

    def run(self, device: str) -> Iterator[Comparison]:
        """Try it."""
        yield from self.body(device)


def fact(operation: str, observed: object, expected: object) -> Comparison:
    """One plain value held against the right one."""
    problem = "" if observed == expected else f"{observed!r} where {expected!r} is right"
    return Comparison(operation=operation, elements=1, problem=problem)


def refused(operation: str, call: Callable[[], object], *types: str) -> Comparison:
    """A call that must raise: one of these types, or any by which torch refuses.

    What is no refusal escapes: an operation that is not there, and a device or library that broke.
    """
    right, raised = types or _REFUSALS, ""
    try:
        call()
    except (torch.cuda.OutOfMemoryError, NotImplementedError):
        raise
    except _RAISED as error:
        if _BROKEN.search(str(error)):
            raise
        raised = type(error).__name__
    problem = (
        "" if raised in right else f"raised {raised or 'nothing'}, {' or '.join(right)} is right"
    )
    return Comparison(operation=operation, elements=1, problem=problem)


def run(trials: Iterable[Trial], device: str) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Try all; one comparison an operation, the first wrong one where there is any.

    The second value names the operations that the back-end lacks, as it may, and says why.
    """
    elements: dict[str, int] = {}
    wrong: dict[str, Comparison] = {}
    lacking: list[str] = []
    for trial in trials:
        found, why = _tried(trial, device)
        if why:
            lacking.append(f"{trial.operation}: {why}")
        for each in found:
            name = each.operation.partition(" (")[0]
            elements[name] = elements.get(name, 0) + each.elements
            if not each.holds:
                wrong.setdefault(name, each)
    right = (Comparison(operation=name, elements=count) for name, count in elements.items())
    held = tuple(wrong.get(each.operation, each) for each in right)
    return held, tuple(dict.fromkeys(lacking))


def _tried(trial: Trial, device: str) -> tuple[list[Comparison], str]:
    """What came of it, and why the back-end lacks it where it does."""
    found: list[Comparison] = []
    breadcrumb.operation(trial.operation)
    try:
        found.extend(trial.run(device))
    except torch.cuda.OutOfMemoryError:
        raise
    except _RAISED as error:
        synchronize(device)  # a poisoned context raises here, and ends the probe as itself
        if why := lacks(error, device, trial.dtype):
            return found, why
        text = (str(error).splitlines() or [""])[0][:200]
        problem = f"raised {type(error).__name__}: {text}"
        found.append(Comparison(operation=trial.operation, problem=problem))
    return found, ""
