"""How the parts of this probe ask torch: guarded, bounded in time, with integer operands."""

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
from probes.kit.capabilities import lacks
from probes.kit.tensors import refusal

Array = npt.NDArray[np.float64]
Facts = dict[str, JsonValue]
T = TypeVar("T")

#: What torch, or a reference that is handed a wrong shape, raises.
RAISED: Final = (
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
)

#: Name of the fact that stands for all that could not be seen because something raised.
STOPPED: Final = "raised"

#: The same where that is an absence which the back-end documents.
LACKING: Final = "lacking"

_REFUSAL_CHARACTERS: Final = 160


@cache
def integers(shape: tuple[int, ...], salt: int = 0) -> Array:
    """Odd integers from -5 to 5 without a short period, so that a swapped pair shows.

    Never 0: the sign of a product with 0 is nobody's promise.
    """
    count = math.prod(shape)
    # Knuth's multiplicative hash; its high bits mix best.
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(977 * salt)) * np.uint64(2654435761)
    six = (mixed % np.uint64(2**32)) // np.uint64(2**16) % np.uint64(6)
    values: Array = (2.0 * six - 5.0).reshape(tuple(shape))
    values.setflags(write=False)  # shared by all who ask for the same
    return values


def tensor(values: npt.ArrayLike, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Those values on the device; a copy, so that nothing is shared with the reference."""
    host = torch.from_numpy(np.array(values, dtype=np.float64))
    # Cast first: some devices have no float64. A copy in any case, also on the CPU.
    return host.to(dtype, copy=True).to(device)


def leaf(values: npt.ArrayLike, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Those values as a tensor of the user's own, whose gradient is wanted."""
    return tensor(values, device, dtype).requires_grad_()


def host(gradient: torch.Tensor) -> npt.NDArray[Any]:
    """A gradient in NumPy, with every zero positive: the sign of an empty sum is not promised."""
    on_host = gradient.detach().cpu()
    if on_host.dtype == torch.bfloat16:
        on_host = on_host.float()  # exact
    array: npt.NDArray[Any] = on_host.numpy()
    return np.asarray(np.add(array, 0.0, dtype=array.dtype))


def numbers(gradient: torch.Tensor | None) -> JsonValue:
    """A small gradient as a fact: plain numbers, or None where there is none."""
    if gradient is None:
        return None
    listed: JsonValue = host(gradient).tolist()
    return listed


def refused(call: Callable[[], object]) -> str:
    """What was raised, cut where its advice begins; empty when the call went through."""
    return refusal(call)[:_REFUSAL_CHARACTERS]


def merged(operation: str, parts: Sequence[Comparison]) -> Comparison:
    """One comparison for all parts of an operation: the first wrong one itself, or their sum.

    It is lacking where every part is.
    """
    for part in parts:
        if not part.holds:
            return part
    lacking = parts[0].lacking if parts and all(part.lacking for part in parts) else ""
    elements = sum(part.elements for part in parts)
    return Comparison(operation=operation, elements=elements, lacking=lacking)


def gathered(steps: Iterable[tuple[str, JsonValue]], device: str) -> Facts:
    """Facts as they come; what raises ends them, and is a fact itself."""
    facts: Facts = {}
    recording = torch.is_grad_enabled()
    try:
        for name, value in steps:
            facts[name] = value
            breadcrumb.operation(f"after {name}")
    except torch.cuda.OutOfMemoryError:  # every back-end's; others may hold the memory
        raise
    except RAISED as error:
        why = lacks(error, device)
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        facts |= {LACKING: why} if why else {STOPPED: said}
    finally:
        # A mode that did not end must not spill into the next check.
        torch._C._set_grad_enabled(recording)
    return facts


def together(calls: Sequence[Callable[[], T]]) -> list[T | str]:
    """What each call returned, all started at once, each in a thread of its own.

    One that raised gives the error's text. They are waited for as long as they take: on a busy
    device that may be long, and whoever runs the probe bounds it and names where it hung.

    Raises:
        RuntimeError: a thread cannot be started, which is the host's to answer for.
    """
    answers: list[T | str] = [""] * len(calls)
    exhausted: list[torch.cuda.OutOfMemoryError] = []
    start = threading.Barrier(len(calls))

    def run(place: int) -> None:
        try:
            start.wait()
            answers[place] = calls[place]()
        except torch.cuda.OutOfMemoryError as error:
            exhausted.append(error)
        except RAISED as error:
            answers[place] = f"{type(error).__name__}: {error}"

    threads = [
        threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(calls))
    ]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        start.abort()  # those that were started must not wait for the others
        raise
    for thread in threads:
        thread.join()
    if exhausted:
        raise exhausted[0]
    return list(answers)
