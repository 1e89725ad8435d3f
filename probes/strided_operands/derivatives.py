"""Gradients of images and parameters, and the family of all gradients."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.convolutions import allowed_error, moving
from probes.kit.gradients import host
from probes.kit.references import compare
from probes.kit.trial import Custom, Trial
from probes.strided_operands.backward import Derivative, derive
from probes.strided_operands.exact_derivatives import EXACT
from probes.strided_operands.memory import Operand, place_values
from probes.strided_operands.places import layouts_of
from probes.strided_operands.row_derivatives import ROUNDED

_functional: Any = torch.nn.functional

_HALVES: Final = (torch.float32, torch.float16, torch.bfloat16)
_IMAGE: Final = Operand((2, 4, 8, 12), -2, 2)


def _images(device: str) -> Iterator[Derivative]:
    bias, weight = Operand((6,), -2, 2), Operand((6, 2, 2, 2), -1, 1)
    steps = moving(2, 2, 1, groups=2)

    def gradients(g: Any, x: Any, w: Any, _b: Any) -> tuple[Any, ...]:
        return (
            steps.input_gradient(g, w, x.shape),
            steps.weight_gradient(g, x, (2, 2)),
            g.sum((0, 2, 3)),
        )

    # Of at most 70 places in two images, of products up to 6.
    error = allowed_error(device, torch.float32, 840, exact=True, tiled=True)
    yield Derivative(
        "nn.functional.conv2d",
        (_IMAGE, weight, bias),
        (2, 6, 5, 7),
        lambda x, w, b: _functional.conv2d(x, w, b, 2, 1, 1, 2),
        gradients,
        allowed=lambda *_: (error, error, None),
    )
    yield Derivative(
        "nn.functional.avg_pool2d",
        (_IMAGE,),
        (2, 4, 4, 6),
        lambda x: _functional.avg_pool2d(x, 2),
        lambda g, _: (g.repeat(2, 2).repeat(2, 3) / 4,),
        _HALVES,
    )
    yield Derivative(
        "nn.functional.interpolate",
        (_IMAGE,),
        (2, 4, 16, 24),
        lambda x: _functional.interpolate(x, scale_factor=2),
        lambda g, _: (g.reshape(2, 4, 8, 2, 12, 2).sum((3, 5)),),
        _HALVES,
    )
    yield Derivative(
        "nn.functional.pad",
        (_IMAGE,),
        (2, 4, 9, 13),
        lambda x: _functional.pad(x, (1, 0, 0, 1)),
        lambda g, _: (g[:, :, :-1, 1:],),
    )


def gradients(device: str) -> Iterator[Trial]:
    """Gradients, and what a plain sum().backward() leaves in parameters of each layout."""
    yield from derive((*EXACT, *_images(device), *ROUNDED), device)
    yield Custom("backward", _accumulated)


def _accumulated(device: str) -> Iterator[Comparison]:
    """A parameter of each layout steps, and steps again after its gradients were added up."""
    for layout in layouts_of((9, 17), writable=True):
        one = place_values(Operand((9, 17), -2, 2), layout, torch.float32, device, 40)
        x = place_values(Operand((6, 17), -2, 2), layout, torch.float32, device, 44)
        parameter = one.tensor.requires_grad_()
        right = np.add(x.array.sum(0), 0 * one.array)
        for _ in range(2):
            _functional.linear(x.tensor, parameter).sum().backward()
        gradient = parameter.grad
        if gradient is None:
            yield Comparison(operation=f"backward ({layout})", problem="no gradient")
            continue
        yield compare(
            f"backward ({layout})", host(gradient), np.add(2 * right, 0, dtype=np.float32)
        )
        with torch.no_grad():
            parameter.sub_(gradient)
        yield from one.changed(
            f"backward (step; {layout}", (one.array - 2 * right).astype(np.float32)
        )
