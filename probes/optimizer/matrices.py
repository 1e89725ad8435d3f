"""Optimizers that look at a matrix as a whole, and of which only some versions have all."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.capabilities import has_dtype
from probes.kit.gradients import integers, tensor
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import Array, Rounded, exact
from probes.kit.trial import Custom, Trial
from probes.optimizer import matrix_algorithms
from probes.optimizer.parameters import flat, implementations
from probes.optimizer.stepping import WIDE

#: A number, vectors, matrices and a stack of matrices; Adafactor takes no empty parameter.
_SHAPES: Final = ((), (7,), (5, 7), (2, 3, 4), (11, 3))
_FACTORS: Final = (1.0, 4.0, 0.5)

#: Square, tall and wide: a tall one is turned.
_MATRICES: Final = ((16, 16), (24, 8), (8, 24))

Parts = Sequence[Array]


def adafactor(device: str) -> Iterator[Trial]:
    """With defaults, clipping, weight decay and maximize."""
    plain: dict[str, Any] = {"lr": 0.25, "eps": (2.0**-20, 0.5)}
    for options in (
        {},
        plain,
        {**plain, "weight_decay": 0.25, "beta2_decay": -0.5},
        {**plain, "maximize": True, "d": 2.0},
    ):
        given = [[_values(shape, 32 + t) * f for shape in _SHAPES] for t, f in enumerate(_FACTORS)]
        for dtype in WIDE:
            yield from _trials("Adafactor", _SHAPES, given, options, dtype, device)


def muon(device: str) -> Iterator[Trial]:
    """One iteration, whose error is small, with each option; torch's default number; in float32."""
    plain: dict[str, Any] = {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.25, "ns_steps": 1}
    given = [[_scattered(shape, 36 + t) for shape in _MATRICES] for t in range(len(_FACTORS))]
    for options in (
        {},
        plain,
        {**plain, "nesterov": False, "weight_decay": 0.0},
        {**plain, "adjust_lr_fn": "match_rms_adamw"},
        {**plain, "ns_steps": 2, "ns_coefficients": (1.5, -0.5, 0.0)},
    ):
        yield from _trials("Muon", _MATRICES, given, options, torch.float32, device)


def _values(shape: tuple[int, ...], salt: int) -> Array:
    return integers(shape, salt) / 4


def _scattered(shape: tuple[int, ...], salt: int) -> Array:
    """One number in each row or column, at the same places whatever the salt."""
    matrix = np.zeros(shape)
    places = np.arange(min(shape))
    matrix[places, (5 * places + 3) % min(shape)] = integers((min(shape),), salt)
    return matrix


def _trials(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    given: Sequence[Parts],
    options: dict[str, Any],
    dtype: torch.dtype,
    device: str,
) -> Iterator[Trial]:
    """In each implementation, if the device has the types."""
    needed = torch.bfloat16 if name == "Muon" else dtype
    if not has_dtype(device, needed):
        return
    for how, chosen in implementations(name, "", device):
        if name == "Muon" and chosen:
            continue  # it has one implementation
        body = partial(_compared, f"{name} {how}", shapes, given, options, chosen, dtype)
        yield Custom(name, body, needed)


def _compared(
    label: str,
    shapes: Sequence[tuple[int, ...]],
    given: Sequence[Parts],
    options: dict[str, Any],
    chosen: dict[str, Any],
    dtype: torch.dtype,
    device: str,
) -> Iterator[Comparison]:
    name = label.partition(" ")[0]
    starts = [_values(shape, 31) for shape in shapes]
    leaves = [tensor(each, device, dtype).requires_grad_() for each in starts]
    optimizer = getattr(torch.optim, name)(leaves, **options, **chosen)
    algorithm: Callable[..., list[Rounded]] = getattr(matrix_algorithms, name.lower())
    right = [
        algorithm(exact(start, UNIT_ROUNDOFF[dtype]), steps, **options)
        for start, steps in zip(starts, zip(*given, strict=True), strict=True)
    ]
    text = "".join(f", {option}={value}" for option, value in options.items())
    for step, gradients in enumerate(given):
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = tensor(gradient, device, dtype)
        optimizer.step()
        value, error = (
            np.concatenate([getattr(each[step], part).reshape(-1) for each in right])
            for part in ("value", "error")
        )
        what = f"{label} ({str(dtype)[6:]}{text}, step {step + 1})"
        yield compare(what, flat(leaves), value, error)
