"""Trials of single operations on a device, and their outcomes."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from probes.contract import GPU_BUSY, Comparison
from probes.kit import breadcrumb
from probes.kit.capabilities import documented_absence, missing_kernel
from probes.kit.tensors import synchronize

#: Errors that are reported as a problem of the operation. Running out of memory is not.
_RAISED = (
    *(RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError),
    *(ArithmeticError, KeyError),
)

#: Types by which torch refuses an argument; the type depends on the back-end if undocumented.
_REFUSALS = ("RuntimeError", "ValueError", "IndexError", "TypeError")

#: Texts of a RuntimeError of a failed device or library, which is not a refusal.
_BROKEN = re.compile(r"_STATUS_|\b(CUDA|HIP|UR|MPS backend) (error|out of memory)|DEVICE_LOST")

#: A line of a longer text that names an error.
_SAYS_WHY = re.compile(r"(Error|[Ee]xception|\berror):? ")


class LeftOut(Exception):  # noqa: N818 - no error: the trial must not run here
    """Raised by a trial that does not run for want of memory; the text says how much it needs."""


class Trial(Protocol):
    """One operation and its comparisons on a device."""

    @property
    def operation(self) -> str:
        """The operation's name in torch."""

    @property
    def dtype(self) -> torch.dtype | None:
        """The floating type of its operands, if it is the same for all."""

    def run(self, device: str) -> Iterator[Comparison]:
        """Yield the comparisons on the device; may raise what torch raises."""


@dataclass(frozen=True)
class Custom:
    """A trial with a function of its own, for what does not fit a `Case`."""

    operation: str
    body: Callable[[str], Iterable[Comparison]]
    dtype: torch.dtype | None = None
    #: Builds may have no kernel for it in its type, on any device.
    optional_kernel: bool = False

    def run(self, device: str) -> Iterator[Comparison]:
        """Yield the comparisons of the function."""
        yield from self.body(device)


def fact(operation: str, observed: object, expected: object) -> Comparison:
    """A comparison of one plain value."""
    problem = "" if observed == expected else f"{observed!r} where {expected!r} is right"
    return Comparison(operation=operation, elements=1, problem=problem)


def refused(operation: str, call: Callable[[], object], *types: str) -> Comparison:
    """A comparison for a call that must raise one of these types, by default any of `_REFUSALS`.

    Raises:
        Exception: the call's own, if the operation is missing or a device or library failed.
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


def run_trials(
    trials: Iterable[Trial], device: str
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Run all trials; return one comparison for each operation, the first wrong one if any.

    The second value lists documented absences of the back-end, `operation: error text`, and what
    was left out for want of memory, or for others who came to the device.
    """
    elements: dict[str, int] = {}
    wrong: dict[str, Comparison] = {}
    lacking: list[str] = []
    for trial in trials:
        if who := breadcrumb.others():
            lacking.append(f"{trial.operation}: {GPU_BUSY}: {who}")
            break
        found, why = _run_trial(trial, device)
        if why:
            lacking.append(f"{trial.operation}: {why}")
        for each in found:
            name = each.operation.partition(" (")[0]
            elements[name] = elements.get(name, 0) + each.elements
            if not each.holds:
                breadcrumb.record_wrong()
                wrong.setdefault(name, each)
    right = (Comparison(operation=name, elements=count) for name, count in elements.items())
    comparisons = tuple(wrong.get(each.operation, each) for each in right)
    return comparisons, tuple(dict.fromkeys(lacking))


def _run_trial(trial: Trial, device: str) -> tuple[list[Comparison], str]:
    """The comparisons of a trial, and why it was left out, if it was."""
    found: list[Comparison] = []
    breadcrumb.operation(trial.operation)
    try:
        found.extend(trial.run(device))
    except LeftOut as left_out:
        return found, str(left_out)
    except torch.cuda.OutOfMemoryError:
        raise
    except _RAISED as error:
        synchronize(device)  # if the device is broken this raises, and ends the probe
        why = documented_absence(error, device, trial.dtype)
        if not why and getattr(trial, "optional_kernel", False):
            why = missing_kernel(error, trial.dtype)
        if why:
            return found, why
        problem = f"raised {type(error).__name__}: {_told(error)}"
        found.append(Comparison(operation=trial.operation, problem=problem))
    return found, ""


def _told(error: Exception) -> str:
    """The first line of an error's text, and the last one that says why, of a worker or compiler.

    `Caught OSError in DataLoader worker process 0.` and `backend='inductor' raised:` tell nothing.
    """
    first, *more = str(error).splitlines() or [""]
    why = [line.strip() for line in more if _SAYS_WHY.search(line)]
    return " ".join([first[:200], *(line[-200:] for line in why[-1:])])
