"""Arithmetic at the lower end of the numbers and between two of them, and the findings about it."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from pydantic import Field

from probes import contract
from probes.contract import Finding, require
from probes.kit import breadcrumb, float_traps

__all__ = ["Observation", "judge", "observe"]

#: Enough for torch to share the work among its threads, each of which has a mode of its own.
_ELEMENTS: Final = 1 << 18
#: A subnormal number of float32, and one of float64.
_SMALL_32: Final = 1e-40
_SMALL_64: Final = 1e-310
#: Half of the distance from 1 to the next number, three quarters of it, and that number. Exact in
#: whatever mode they are read, and computed by nobody.
_STEP_64: Final = tuple(map(float.fromhex, ("0x1p-53", "0x1.8p-53", "0x1.0000000000001p+0")))
_STEP_32: Final = tuple(map(float.fromhex, ("0x1p-24", "0x1.8p-24", "0x1.000002p+0")))


class Observation(contract.Observation):
    """Operation -> how many results are zero and must not be; and what sums were rounded to.

    A sum rounds right when one and half a step is one, one and three quarters is the next number,
    and the same holds below zero.
    """

    unmasked: tuple[str, ...] = ()  # exceptions of the processor that end a process
    lost: dict[str, int] = Field(default_factory=dict)
    rounds_right: dict[str, bool] = Field(default_factory=dict)


def observe(device: str) -> Observation:  # noqa: ARG001 - it is about the host's processor
    """Compute with each library; nothing is left to a compiler of constants."""
    unmasked = float_traps.unmasked()
    with float_traps.masked():  # else the first of them would end this process
        lost, rounds = _computed()
    return Observation(unmasked=unmasked, lost=lost, rounds_right=rounds)


def _computed() -> tuple[dict[str, int], dict[str, bool]]:
    """How many numbers each library loses, and where it rounds right."""
    breadcrumb.operation("subnormal numbers")
    small = {np.float32: np.float32(_SMALL_32), np.float64: np.float64(_SMALL_64)}
    arrays = {kind.__name__: np.full(64, value) for kind, value in small.items()}
    tensors = {
        "float32": torch.full((_ELEMENTS,), _SMALL_32, dtype=torch.float32),
        "float64": torch.full((_ELEMENTS,), _SMALL_64, dtype=torch.float64),
    }
    lost = {"python float": int(float(sys.float_info.min) / 2 == 0)}
    for name, array in arrays.items():
        lost[f"numpy {name}"] = int(np.count_nonzero(array * array.dtype.type(1) == 0))
    for name, tensor in tensors.items():
        lost[f"torch {name}"] = int(((tensor * 1).numpy().view(_BITS[name]) == 0).sum())
    breadcrumb.operation("rounding")
    rounds = {
        "python float": _nearest([float(len(name)) for name in "abc"], _STEP_64),
        "numpy float64": _nearest(np.full(3, 1.0), _STEP_64),
        "torch float32": _nearest(torch.ones(_ELEMENTS, dtype=torch.float32), _STEP_32),
        "torch float64": _nearest(torch.ones(_ELEMENTS, dtype=torch.float64), _STEP_64),
    }
    return lost, rounds


#: Integers of the same width: a comparison of subnormal numbers with zero may flush them, too.
_BITS: Final = {"float32": np.int32, "float64": np.int64}


def _nearest(ones: Any, steps: tuple[float, ...]) -> bool:
    """Whether ties went to the even number, and what is nearer to the next one went there.

    Args:
        ones: three ones in a list, or some in an array or a tensor: no constant for a compiler.
        steps: half a step, three quarters of one, and the number after 1.
    """
    half, more, following = steps
    if isinstance(ones, list):
        sums = [ones[0] + half, ones[1] + more, -ones[2] - half]
    else:
        sums = [ones + half, ones + more, -ones - half]
    expected = (1.0, following, -1.0)
    return all(
        bool((np.asarray(got) == wanted).all()) for got, wanted in zip(sums, expected, strict=True)
    )


_HINT: Final = (
    "find the library whose loading changes the mode, by imports one after another: "
    "`python -c 'import numpy; import X; print(numpy.float32(1e-40) * 1)'`; it was built with "
    "-ffast-math, or calls torch.set_flush_denormal(True)"
)


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield the findings: lost numbers are a warning, a wrong direction of rounding a failure."""
    for library in ("python", "numpy", "torch"):
        lost = {
            name: count
            for name, count in observation.lost.items()
            if name.startswith(library) and count
        }
        yield require(
            f"float_mode.{library}_subnormals",
            not lost,
            {**lost},
            {},
            message=f"subnormal numbers became zero: {', '.join(lost)}",
            hint=_HINT,
            action="fix_image",
            otherwise="warn",
        )
    yield require(
        "float_mode.exceptions",
        not observation.unmasked,
        [*observation.unmasked],
        [],
        message=f"{', '.join(observation.unmasked)}: ends the process with SIGFPE",
        hint="some library, or a variable for debugging, has called feenableexcept: find it by "
        "imports one after another",
        action="fix_image",
    )
    wrong = [name for name, right in observation.rounds_right.items() if not right]
    yield require(
        "float_mode.rounding",
        not wrong,
        [*wrong],
        [],
        message=f"sums are not rounded to the nearest number: {', '.join(wrong)}",
        hint="some library has changed the direction of rounding (fesetround): find it by imports "
        "one after another",
        action="fix_image",
    )
