"""First and second derivatives, compared with finite differences by torch's gradcheck.

`gradcheck` compares torch with torch, so it misses an operation that is equally wrong in forward
and backward; the closed forms and integers of the other families find it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from probes.contract import Comparison
from probes.kit.gradients import Array, integers, leaf
from probes.kit.references import attempted

#: With atol 1e-7 and rtol 1e-6 a derivative that is wrong by 0.05 % is found; with the defaults
#: (1e-5, 1e-3) it is not. Central differences with step 1e-6 near 1 have an error of some 1e-10.
_TIGHT: Final[dict[str, Any]] = {"eps": 1e-6, "atol": 1e-7, "rtol": 1e-6}
_DEFAULT: Final[dict[str, Any]] = {"eps": 1e-6, "atol": 1e-5, "rtol": 1e-3}
#: Two runs of a kernel may sum in different orders and so differ by roundings, which is allowed.
_REORDERED: Final = 1e-10


@dataclass(frozen=True)
class Smooth:
    """A differentiable operation, and the operands at which it is checked."""

    name: str
    call: Callable[..., torch.Tensor]
    operands: tuple[Array, ...]
    twice: bool = False  # also check the second derivative


_X, _Y = integers((2, 3), 91) / 8, integers((3, 2), 92) / 8
_POSITIVE = np.abs(_X) + 0.25

SMOOTH: Final[tuple[Smooth, ...]] = (
    Smooth("tanh", torch.tanh, (_X,), twice=True),
    Smooth("sigmoid", torch.sigmoid, (_X,), twice=True),
    Smooth("exp", torch.exp, (_X,)),
    Smooth("log", torch.log, (_POSITIVE,)),
    Smooth("gelu", functional.gelu, (_X,)),
    Smooth("softmax", lambda x: x.softmax(1), (_X,), twice=True),
    Smooth("log_softmax", lambda x: x.log_softmax(1), (_X,)),
    Smooth("logsumexp", lambda x: x.logsumexp(1), (_X,)),
    Smooth("matmul", torch.matmul, (_X, _Y), twice=True),
    Smooth("linear", functional.linear, (_X, _Y.T.copy(), _X[:, 0].copy())),
    Smooth(
        "layer_norm",
        lambda x, w, b: functional.layer_norm(x, (3,), w, b),
        (_X, _POSITIVE[0].copy(), _X[1].copy()),
        twice=True,
    ),
    Smooth("conv1d", functional.conv1d, (integers((1, 2, 5), 93) / 8, integers((2, 2, 3), 94) / 8)),
    Smooth("cumprod", lambda x: x.cumprod(1), (_POSITIVE,)),
    Smooth("norm", torch.linalg.vector_norm, (_X,)),
    Smooth("atan2", torch.atan2, (_X, _POSITIVE)),
    Smooth(
        "complex product",
        lambda x, y: (torch.complex(x, y) * torch.complex(y, x * x)).abs(),
        (_X, _POSITIVE),
    ),
)


def _leaves(smooth: Smooth, device: str) -> list[torch.Tensor]:
    return [leaf(values, device, torch.float64) for values in smooth.operands]


def _gradcheck_comparison(smooth: Smooth, settings: dict[str, Any], device: str) -> Comparison:
    return _check_comparison(
        smooth.name,
        lambda: gradcheck(
            smooth.call, _leaves(smooth, device), fast_mode=True, nondet_tol=_REORDERED, **settings
        ),
        device,
    )


def _gradgradcheck_comparison(smooth: Smooth, device: str) -> Comparison:
    leaves = _leaves(smooth, device)
    shape = tuple(smooth.call(*(each.detach() for each in leaves)).shape)
    # Given, because gradgradcheck would draw one from the user's random stream.
    upstream = leaf(integers(shape, 95) / 8, device, torch.float64)
    return _check_comparison(
        smooth.name,
        lambda: gradgradcheck(
            smooth.call, leaves, [upstream], fast_mode=True, nondet_tol=_REORDERED, **_TIGHT
        ),
        device,
    )


def _check_comparison(name: str, check: Callable[[], bool], device: str) -> Comparison:
    return attempted(
        name, lambda: Comparison(operation=name, elements=int(check())), device, torch.float64
    )


def tight(device: str) -> list[Comparison]:
    """Gradcheck in float64 within the tight bounds."""
    return [_gradcheck_comparison(smooth, _TIGHT, device) for smooth in SMOOTH]


def default(device: str, within_tight: Sequence[Comparison]) -> list[Comparison]:
    """Gradcheck in float64 within its default bounds.

    What passed within the tight bounds passes within these too, and is not computed again.
    """
    known = {found.operation for found in within_tight if found.holds}
    return [
        Comparison(operation=smooth.name, elements=1)
        if smooth.name in known
        else _gradcheck_comparison(smooth, _DEFAULT, device)
        for smooth in SMOOTH
    ]


def second(device: str) -> list[Comparison]:
    """Gradgradcheck in float64 within the tight bounds."""
    return [_gradgradcheck_comparison(smooth, device) for smooth in SMOOTH if smooth.twice]
