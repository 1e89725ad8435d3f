"""NaN and infinities in values: every query that sees them has them, in their own column."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import torch

from probes.attention.bounds import Array, units
from probes.attention.problems import Problem, expected
from probes.attention.running import Attempt, name_of
from probes.contract import Comparison
from probes.kit.capabilities import floats
from probes.kit.references import compare, fact
from probes.kit.trial import Custom, Trial

_PROBLEMS: Final = (
    Problem(2, 2, 64, 64, 16),
    Problem(2, 1, 192, 192, 64, causal=True, layout="transposed"),
    Problem(2, 2, 64, 192, 64, mask="bool"),
)

#: Key, column, and what is put there, in the first head of the first batch.
_PLANTED: Final = ((0, 3, np.nan), (40, 7, np.inf), (63, 12, -np.inf))


def not_finite(device: str) -> Iterator[Trial]:
    """Each problem in each type, with three values that are not finite."""
    for problem in _PROBLEMS:
        for dtype in floats(device):
            name = f"not finite values {name_of(dtype)}"
            yield Custom(name, partial(_compare, problem, dtype), dtype)


def _compare(problem: Problem, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """A query that does not see the key may have NaN all the same: 0 times NaN is NaN.

    A kernel may also answer NaN for an infinity: float32 as a sum of TF32 parts does.
    """
    attempt = Attempt(problem, device, dtype)
    for key, column, value in _PLANTED:
        attempt.views[2][0, 0, key, column] = value
    out = attempt.output().detach().cpu().double().numpy()
    label = f"not finite values {name_of(dtype)} ({problem}"
    for key, column, value in _PLANTED:
        seen = _seen(problem, key)
        finite = int(np.isfinite(out[0, 0, seen, column]).sum())
        yield fact(f"{label}, {value}: queries without it)", finite, 0)
    right = expected(problem, units(device, dtype)).output
    columns = [column for _, column, _ in _PLANTED]
    others = [column for column in range(problem.size) if column not in columns]
    yield compare(
        f"{label}, other columns)",
        out[0, 0][:, others],
        right.value[0, 0][:, others],
        right.error[0, 0][:, others],
    )
    yield compare(f"{label}, other batches)", out[1], right.value[1], right.error[1])


def _seen(problem: Problem, key: int) -> Array:
    """Which queries of the first head of the first batch see the key."""
    shape = (problem.batch, problem.heads, problem.length, problem.keys)
    return np.asarray(np.isfinite(np.broadcast_to(problem.bias(), shape)[0, 0, :, key]))
