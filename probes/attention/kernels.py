"""The kernels of attention that can be asked for by name, and the one that torch picks itself."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import torch

from probes.attention.bounds import units
from probes.attention.problems import Problem, expected, gradients
from probes.attention.running import Attempt, compare_bounded, name_of
from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.trial import Custom, Trial

_PROBLEMS: Final = (
    Problem(2, 1, 192, 192, 64, layout="packed"),
    Problem(1, 1, 257, 257, 128, causal=True, layout="transposed"),
    Problem(2, 2, 64, 192, 80, mask="bool", mask_axes="blk"),
)

#: What `_fused_sdp_choice` is asked about.
_TYPICAL: Final = Problem(2, 2, 64, 64, 64, causal=True, layout="transposed")

#: How torch says that the kernel that it was asked for does not take this type, shape or device.
_REFUSED: Final = re.compile(
    r"no (available kernel|viable backend)|not (available|compiled|implemented|supported|built)"
    r"|unsupported|does(n't| not) support|no (valid )?execution plans",
    re.IGNORECASE,
)

#: Raised where a kernel is asked for that this build or device does not have.
_ERRORS: Final = (RuntimeError, NotImplementedError)

#: The answer of `_fused_sdp_choice` that is no kernel.
_NO_KERNEL: Final = "error"


def by_name() -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """Kernel name -> what asks for it; empty before torch 2.3, which has no way to ask."""
    try:
        from torch.nn.attention import (  # noqa: PLC0415 - missing in torch 2.2
            SDPBackend,
            sdpa_kernel,
        )
    except ImportError:
        return {}
    return {
        name.lower(): partial(sdpa_kernel, backend)
        for name, backend in SDPBackend.__members__.items()
        if name.lower() != _NO_KERNEL
    }


def kernels(device: str) -> Iterator[Trial]:
    """Each kernel in each type, forward and backward."""
    for problem in _PROBLEMS:
        for dtype in floats(device):
            for kernel, ask in by_name().items():
                yield Custom(
                    f"{kernel} {name_of(dtype)}",
                    partial(_compare, kernel, ask, problem, dtype),
                    dtype,
                )


def _compare(
    kernel: str,
    ask: Callable[[], AbstractContextManager[Any]],
    problem: Problem,
    dtype: torch.dtype,
    device: str,
) -> Iterator[Comparison]:
    """Compare a problem by one kernel, unless that refuses."""
    attempt = Attempt(problem, device, dtype, gradients=True)
    with ask():
        try:
            out = attempt.output()
        except _ERRORS as error:
            if _REFUSED.search(str(error)):
                return
            raise
        found = attempt.gradients(out)
    by = units(device, dtype)
    label = f"{kernel} {name_of(dtype)}"
    right = {"output": expected(problem, by).output, **gradients(problem, by)}
    for name, each in right.items():
        tensor = out if name == "output" else found[name]
        yield from compare_bounded(f"{label} ({name}, {problem})", tensor, each, dtype, by)


def picked(device: str) -> dict[str, str]:
    """Type -> the kernel that torch picks by itself; nothing where torch does not say."""
    choice: Any = getattr(torch, "_fused_sdp_choice", None)
    names = _names()
    found: dict[str, str] = {}
    for dtype in floats(device) if choice is not None and names else ():
        attempt = Attempt(_TYPICAL, device, dtype)
        try:
            answer = int(choice(*attempt.views, **attempt.options()))
        except (RuntimeError, TypeError, ValueError):  # it is private: another version may differ
            continue
        found[name_of(dtype)] = names.get(answer, str(answer))
    return found


def _names() -> dict[int, str]:
    """Number -> kernel name, as `_fused_sdp_choice` answers."""
    backends: Any = getattr(torch._C, "_SDPBackend", None)
    members = getattr(backends, "__members__", {})
    return {int(value): name.lower() for name, value in members.items()}
