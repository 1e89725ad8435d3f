"""Trials that step an optimizer in all its implementations, and compare it with its algorithm."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch

from probes.contract import Comparison
from probes.kit.capabilities import back_end, has_dtype
from probes.kit.references import UNIT_ROUNDOFF, compare
from probes.kit.rounding import Array, exact
from probes.kit.trial import Custom, Trial
from probes.optimizer.parameters import (
    BY_DEFAULT,
    DENSE,
    MANY,
    WITH_GAPS,
    Layout,
    flat,
    gradients,
    implementations,
    set_gradients,
    start,
)

#: An algorithm of `probes.optimizer.algorithms`.
Algorithm = Callable[..., Any]

Answers = list[tuple[Array, Array | None]]

#: Factors of the gradients of each step: they grow, fall below their average, and grow again.
FACTORS: Final = (1.0, 4.0, 0.5, 0.25, 2.0)

#: The element that never has a gradient: its step is 0 / (0 + eps).
_ZERO: Final = 5

WIDE: Final = (torch.float32, torch.float64)
HALF: Final = (torch.float16, torch.bfloat16)

#: Elsewhere `capturable` is refused.
_WITH_GRAPHS: Final = {"cuda", "hip"}


@dataclass(frozen=True)
class Recipe:
    """An optimizer, its algorithm, and one set of options to step it with."""

    optimizer: str  # looked up in torch.optim at the call
    algorithm: Algorithm
    fused: str = ""  # its fused kernel
    options: dict[str, Any] = field(default_factory=dict)
    #: Gradients of each step.
    factors: tuple[float, ...] = FACTORS
    constant: bool = False  # the same gradient at each step
    exact: bool = False  # each operation is exact, in every order: bits must be equal
    scale: float = 0.25  # of parameters and gradients
    layout: Layout = WITH_GAPS
    dtypes: tuple[torch.dtype, ...] = WIDE
    only: tuple[str, ...] = ("for-loop", "foreach", "fused")
    by_default: bool = False  # what torch chooses itself is stepped too
    tensor_lr: bool = False  # the learning rate is a tensor on the device
    capturable: bool = False  # by its form for graphs, on the back-ends that have graphs

    def gradients(self) -> list[Array]:
        """The gradients of each step; one element's is always zero."""
        steps = gradients(self.layout.size, self.factors, self.scale)
        if self.constant:
            steps = [steps[0]] * len(steps)
        if not self.exact:
            for step in steps:
                step[_ZERO] = 0.0
        return steps

    def start(self) -> Array:
        """The parameters before the first step."""
        return start(self.layout.size, self.scale)


def trials(recipes: Sequence[Recipe], device: str) -> Iterator[Trial]:
    """Each recipe in each type and implementation that the device has."""
    for recipe in recipes:
        if recipe.capturable and back_end(device) not in _WITH_GRAPHS:
            continue
        for dtype in recipe.dtypes:
            if has_dtype(device, dtype):
                body = partial(_compared, recipe, dtype)
                yield Custom(recipe.optimizer, body, dtype)


def expected(recipe: Recipe, dtype: torch.dtype) -> Answers:
    """The parameters after each step, and the error allowed; None where all is exact."""
    unit = UNIT_ROUNDOFF[dtype]
    theta: Any = recipe.start()
    given = recipe.gradients()
    if recipe.exact:
        return [(each, None) for each in recipe.algorithm(theta, given, **recipe.options)]
    steps = recipe.algorithm(exact(theta, unit), given, **recipe.options)
    return [(each.value, each.error) for each in steps]


def _compared(recipe: Recipe, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    answers = expected(recipe, dtype)
    for name, chosen in implementations(recipe.optimizer, recipe.fused, device):
        if name not in (*recipe.only, *([BY_DEFAULT] if recipe.by_default else [])):
            continue
        label = _label(recipe, name, dtype)
        found = stepped(recipe, name, chosen, dtype, device)
        for step, (observed, (value, allowed)) in enumerate(zip(found, answers, strict=True), 1):
            size = observed.size  # without the parameter with gaps, which is the last
            right = value[:size] if allowed is not None else value[:size].astype(observed.dtype)
            bound = None if allowed is None else allowed[:size]
            yield compare(f"{label}, step {step})", observed, right, bound)


def _label(recipe: Recipe, implementation: str, dtype: torch.dtype) -> str:
    options = "".join(f", {name}={value}" for name, value in recipe.options.items())
    options += ", 121 tensors" if recipe.layout is MANY else ""
    options += ", lr a tensor" if recipe.tensor_lr else ""
    options += ", capturable" if recipe.capturable else ""
    kind = f"{dtype}".removeprefix("torch.")
    return f"{recipe.optimizer} {implementation} ({kind}{options}"


def stepped(
    recipe: Recipe, name: str, chosen: dict[str, Any], dtype: torch.dtype, device: str
) -> list[Array]:
    """The parameters after each step on the device."""
    fused_layout = DENSE if recipe.layout is WITH_GAPS else recipe.layout
    layout = fused_layout if name == "fused" else recipe.layout
    size = layout.size
    parameters = layout.parameters(recipe.start()[:size], device, dtype)
    options = dict(recipe.options)
    if recipe.tensor_lr:
        options["lr"] = torch.tensor(options["lr"], dtype=torch.float32, device=device)
    if recipe.capturable:
        options["capturable"] = True
    optimizer = getattr(torch.optim, recipe.optimizer)(parameters, **options, **chosen)
    steps = []
    for gradient in recipe.gradients():
        set_gradients(parameters, layout, gradient[:size])
        optimizer.step()
        steps.append(flat(parameters))
    return steps
