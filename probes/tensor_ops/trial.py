"""How trials are run: one operation each, tried on a device, and what came of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.tensors import refusal, synchronize

#: What a call may raise and be reported as itself. Out of memory is not the operation's fault.
_RAISED = (
    *(RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError),
    *(ArithmeticError, KeyError),
)


#: A back-end that draws on the host takes no generator of its own.
_NO_GENERATOR = ("device type for generator but found", "generator device but found")


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
    breadcrumb.operation(trial.operation)
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
    known = ("not implemented for", "not supported for torch.Generator", *_NO_GENERATOR)
    if not isinstance(error, NotImplementedError) and not any(part in text for part in known):
        return False
    half = "'Half'" in text or "'BFloat16'" in text
    return half if kind == "cpu" else kind != "cuda"
