"""Helpers of this probe: integer operands, facts, threads, and errors turned into data."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue

from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.capabilities import documented_absence
from probes.kit.tensors import refusal

Array = npt.NDArray[np.float64]
Facts = dict[str, JsonValue]
T = TypeVar("T")

#: Errors raised by torch, or by a reference that gets a wrong shape.
RAISED: Final = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
)

#: Name of the fact with the error that ended the facts of a check.
STOPPED: Final = "raised"

#: The same for an error that is a documented absence of the back-end.
LACKING: Final = "lacking"

_REFUSAL_CHARACTERS: Final = 160


@cache
def integers(shape: tuple[int, ...], salt: int = 0) -> Array:
    """Odd integers from -5 to 5 without a short period, so that exchanged elements are found.

    Never 0: the sign of a product with 0 is not promised. Cached and read-only.
    """
    count = math.prod(shape)
    # Knuth's multiplicative hash; its high bits mix best.
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(977 * salt)) * np.uint64(2654435761)
    six = (mixed % np.uint64(2**32)) // np.uint64(2**16) % np.uint64(6)
    values: Array = (2.0 * six - 5.0).reshape(tuple(shape))
    values.setflags(write=False)  # cached: all callers share it
    return values


def tensor(values: npt.ArrayLike, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The values as a tensor on the device; a copy that shares no memory with the reference."""
    host = torch.from_numpy(np.array(values, dtype=np.float64))
    # Convert before the move: some devices have no float64. copy=True: a copy on the CPU too.
    return host.to(dtype, copy=True).to(device)


def leaf(values: npt.ArrayLike, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The values as a leaf tensor that requires a gradient."""
    return tensor(values, device, dtype).requires_grad_()


def host(gradient: torch.Tensor) -> npt.NDArray[Any]:
    """The gradient as a NumPy array; zeros are made positive: their sign is not promised."""
    on_host = gradient.detach().cpu()
    if on_host.dtype == torch.bfloat16:
        on_host = on_host.float()  # exact
    array: npt.NDArray[Any] = on_host.numpy()
    return np.asarray(np.add(array, 0.0, dtype=array.dtype))


def numbers(gradient: torch.Tensor | None) -> JsonValue:
    """A small gradient as plain numbers for a fact; None without a gradient."""
    if gradient is None:
        return None
    listed: JsonValue = host(gradient).tolist()
    return listed


def refused(call: Callable[[], object]) -> str:
    """The error that a call raised, cut to a bounded length; empty if it raised none."""
    return refusal(call)[:_REFUSAL_CHARACTERS]


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


def collect_facts(steps: Iterable[tuple[str, JsonValue]], device: str) -> Facts:
    """Collect the facts that `steps` yields; an error ends them and becomes a fact itself."""
    facts: Facts = {}
    recording = torch.is_grad_enabled()
    try:
        for name, value in steps:
            facts[name] = value
            breadcrumb.operation(f"after {name}")
    except torch.cuda.OutOfMemoryError:  # of every back-end; others may use the memory
        raise
    except RAISED as error:
        why = documented_absence(error, device)
        text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        facts |= {LACKING: why} if why else {STOPPED: text}
    finally:
        # A mode that did not end must not affect the next check.
        torch._C._set_grad_enabled(recording)
    return facts


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
