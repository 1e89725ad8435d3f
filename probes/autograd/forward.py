"""Forward-mode derivatives of integer operands."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from torch.autograd import forward_ad

from probes.contract import Comparison
from probes.kit.gradients import Array, host, integers, tensor
from probes.kit.references import attempted, compare


@dataclass(frozen=True)
class Forward:
    """An operation and its directional derivative by NumPy: (operands, tangents) -> tangent."""

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
    """Forward-mode tangents of integer operands, compared bit for bit."""
    return [
        attempted(case.name, partial(_tangent_comparison, case, device), device) for case in FORWARD
    ]


def _tangent_comparison(case: Forward, device: str) -> Comparison:
    tangents = [integers(values.shape, 99 + k) for k, values in enumerate(case.operands)]
    level = forward_ad.enter_dual_level()
    try:
        # Not forward_ad.make_dual, which imports a compiler that these operations do not need.
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
