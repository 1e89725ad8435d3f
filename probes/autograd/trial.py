"""Helpers of this probe: comparisons of several parts as one, and calls in threads."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from probes.contract import Comparison
from probes.kit.facts import RAISED

T = TypeVar("T")


def merged(operation: str, parts: Sequence[Comparison]) -> Comparison:
    """One comparison for all parts of an operation: the first wrong part, or their sum.

    `lacking` is set if every part is lacking.
    """
    for part in parts:
        if not part.holds:
            return part
    lacking = parts[0].lacking if parts and all(part.lacking for part in parts) else ""
    elements = sum(part.elements for part in parts)
    return Comparison(operation=operation, elements=elements, lacking=lacking)


def run_in_threads(calls: Sequence[Callable[[], T]]) -> list[T | str]:
    """Run the calls at once, each in its own thread; return their results, or texts of errors.

    Waits without a deadline: on a busy device a call may take long, and the supervisor stops a
    probe that hangs.

    Raises:
        RuntimeError: a thread cannot be started, which is a problem of the host.
        torch.cuda.OutOfMemoryError: a call raised it.
    """
    answers: list[T | str] = [""] * len(calls)
    memory_errors: list[torch.cuda.OutOfMemoryError] = []
    start = threading.Barrier(len(calls))

    def run(place: int) -> None:
        try:
            start.wait()
            answers[place] = calls[place]()
        except torch.cuda.OutOfMemoryError as error:
            memory_errors.append(error)
        except RAISED as error:
            answers[place] = f"{type(error).__name__}: {error}"

    threads = [
        threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(calls))
    ]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        start.abort()  # started threads must not wait for the others
        raise
    for thread in threads:
        thread.join()
    if memory_errors:
        raise memory_errors[0]
    return list(answers)
