"""L-BFGS on a quadratic, whose minimum is known."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import integers, leaf, tensor
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.optimizer.parameters import flat
from probes.optimizer.stepping import WIDE

_SIZE: Final = 8
_PARTS: Final = ((3,), (5, 1))  # the shapes of two parameters

#: Curvatures from 1 to 64: without the history of its steps a descent that is no faster than the
#: steepest comes nearer by (63 / 65)^40 = 0.29 in so many steps.
_CURVATURES: Final = 2.0 ** (np.arange(_SIZE) % 7)
_ITERATIONS: Final = 40

#: Line search -> the first length that is tried of each step: without a search that is the length,
#: and four times as much would lead away.
_RATES: Final = {"strong_wolfe": 4.0, None: 1.0}

#: The start is 3 and more away in each direction; torch ends where the largest gradient is 1e-7, or
#: where float32 shows no more change.
_NEAR: Final = 2.0**-6


def lbfgs(device: str) -> Iterator[Trial]:
    """With a line search in one call, and without one in several, which go on from its history."""
    for dtype in (each for each in WIDE if has_dtype(device, each)):
        for search in _RATES:
            yield Custom("LBFGS", partial(_found, search, dtype), dtype)


def _turned() -> Any:
    """The orthogonal matrix of Sylvester and Hadamard, times the root of its size."""
    two = np.array([[1.0, 1.0], [1.0, -1.0]])
    return np.kron(np.kron(two, two), two)


def _found(search: str | None, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """f(x) = sum a (H (x - c))^2 / 16, whose curvatures are a."""
    center = integers((_SIZE,), 51) / 2
    matrix, curvatures = (tensor(each, device, dtype) for each in (_turned(), _CURVATURES))
    at = tensor(center, device, dtype)
    leaves = [leaf(np.zeros(shape), device, dtype) for shape in _PARTS]
    calls = 1 if search else 4
    optimizer = torch.optim.LBFGS(
        leaves, lr=_RATES[search], max_iter=_ITERATIONS // calls, line_search_fn=search
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        x = torch.cat([each.reshape(-1) for each in leaves])
        loss = (curvatures * (matrix @ (x - at)) ** 2).sum() / 16
        loss.backward()
        return loss

    for _ in range(calls):
        optimizer.step(closure)
    label = f"LBFGS ({str(dtype)[6:]}, line_search_fn={search})"
    yield compare(label, flat(leaves).astype(float), center, _NEAR)
