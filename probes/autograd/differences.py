"""Derivatives against finite differences, and the other ways to ask for them: forward, batched.

`gradcheck` holds torch against torch, so it is blind to an operation that is wrong in both
directions alike; the closed forms and integers of the other families are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn import functional

from probes.autograd.trial import Array, host, integers, leaf, tensor
from probes.contract import Comparison
from probes.references import attempted, compare
from probes.tensors import refusal

#: With atol 1e-7 and rtol 1e-6 a derivative that is off by 0.05 % is seen; by default (1e-5, 1e-3)
#: it is not. Central differences with step 1e-6 of values near 1 are off by some 1e-10.
_TIGHT: Final = {"eps": 1e-6, "atol": 1e-7, "rtol": 1e-6}
_DEFAULT: Final = {"eps": 1e-6, "atol": 1e-5, "rtol": 1e-3}
#: Sums whose order differs between two runs of one kernel differ by roundings, which is allowed.
_REORDERED: Final = 1e-10


@dataclass(frozen=True)
class Smooth:
    """An operation that can be differentiated, and where to do so."""

    name: str
    call: Callable[..., torch.Tensor]
    operands: tuple[Array, ...]
    twice: bool = False  # its second derivative too


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


def _verdict(name: str, text: str) -> Comparison:
    return Comparison(operation=name, elements=0 if text else 1, problem=text)


def finite_differences(device: str) -> tuple[list[Comparison], list[Comparison]]:
    """gradcheck with its default settings and with tight ones, of float64.

    What holds within the tight bounds holds within the wider ones, and is not computed again.
    """
    default, tight = [], []
    for smooth in SMOOTH:
        leaves = [leaf(values, device, torch.float64) for values in smooth.operands]

        def checked(
            settings: dict[str, float], smooth: Smooth = smooth, leaves: list[torch.Tensor] = leaves
        ) -> str:  # noqa: E501
            return refusal(
                lambda: gradcheck(
                    smooth.call, leaves, fast_mode=True, nondet_tol=_REORDERED, **settings
                )
            )

        text = checked(_TIGHT)
        tight.append(_verdict(smooth.name, text))
        default.append(_verdict(smooth.name, checked(_DEFAULT) if text else ""))
    return default, tight


def second_differences(device: str) -> list[Comparison]:
    """gradgradcheck, tight, of those operations whose second derivative is asked for."""
    found = []
    for smooth in SMOOTH:
        if not smooth.twice:
            continue
        leaves = [leaf(values, device, torch.float64) for values in smooth.operands]
        shape = smooth.call(*(each.detach() for each in leaves)).shape
        # Given, so that none is drawn from the user's random stream.
        upstream = leaf(integers(shape, 95) / 8, device, torch.float64)
        found.append(
            _verdict(
                smooth.name,
                refusal(
                    lambda smooth=smooth, leaves=leaves, upstream=upstream: gradgradcheck(
                        smooth.call,
                        leaves,
                        [upstream],
                        fast_mode=True,
                        nondet_tol=_REORDERED,
                        **_TIGHT,
                    )
                ),
            )
        )
    return found


@dataclass(frozen=True)
class Forward:
    """An operation's derivative along a direction: (operands, tangents) -> tangent, by NumPy."""

    name: str
    call: Callable[..., torch.Tensor]
    operands: tuple[Array, ...]
    tangent: Callable[..., Array]


_A, _B, _C = integers((3, 4), 96), integers((4, 5), 97), integers((3, 4), 98)

FORWARD: Final[tuple[Forward, ...]] = (
    Forward("matmul", torch.matmul, (_A, _B), lambda a, b, da, db: da @ b + a @ db),
    Forward("mul", torch.mul, (_A, _C), lambda a, c, da, dc: da * c + a * dc),
    Forward("square", torch.square, (_A,), lambda a, da: 2 * a * da),
    Forward("relu", torch.relu, (_A,), lambda a, da: da * (a > 0)),
    Forward("sum", lambda a: a.sum(1), (_A,), lambda _a, da: da.sum(1)),
    Forward("transpose", lambda a: a.t(), (_A,), lambda _a, da: da.T),
    Forward(
        "cat",
        lambda a, c: torch.cat((a, c)),
        (_A, _C),
        lambda _a, _c, da, dc: np.concatenate((da, dc)),
    ),
    Forward(
        "index_select",
        lambda a: a.index_select(0, torch.tensor([2, 0, 2], device=a.device)),
        (_A,),
        lambda _a, da: da[[2, 0, 2]],
    ),
)


def forward_mode(device: str) -> list[Comparison]:
    """Tangents of integer operands, carried forward beside the values: bits."""
    return [attempted(case.name, lambda case=case: _pushed(case, device)) for case in FORWARD]


def _pushed(case: Forward, device: str) -> Comparison:
    tangents = [integers(values.shape, 99 + k) for k, values in enumerate(case.operands)]
    level = forward_ad.enter_dual_level()
    try:
        # forward_ad.make_dual would first import a compiler, which these operations do not need.
        duals = [
            torch._VF._make_dual(tensor(values, device), tensor(along, device), level=level)
            for values, along in zip(case.operands, tangents, strict=True)
        ]
        tangent = torch._VF._unpack_dual(case.call(*duals), level=level)[1]
    finally:
        forward_ad.exit_dual_level(level=level)
    if tangent is None:
        return Comparison(operation=case.name, problem="the tangent was lost")
    expected = case.tangent(*case.operands, *tangents).astype(np.float32)
    return compare(case.name, host(tangent), np.add(expected, 0.0, dtype=np.float32))


def batched(device: str) -> list[Comparison]:
    """A whole Jacobian from one backward over a batch of upstream gradients: bits."""

    def held() -> Comparison:
        matrix, at = integers((4, 3), 88), integers((3,), 89)
        x = leaf(at, device)
        y = tensor(matrix, device) @ x * x[0]
        every = torch.eye(4).to(device)
        (jacobian,) = torch.autograd.grad(y, x, every, is_grads_batched=True)
        expected = matrix * at[0]
        expected[:, 0] += matrix @ at
        return compare("matmul", host(jacobian), expected.astype(np.float32))

    return [attempted("matmul", held)]
