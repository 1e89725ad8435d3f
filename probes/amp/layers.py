"""A layer of one weight, and trials that run it in regions of autocast."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from probes.amp.lower import signs
from probes.amp.regions import Array, autocast, lower_types, name_of
from probes.contract import Comparison
from probes.kit.gradients import leaf, root, tensor
from probes.kit.trial import Custom, Trial


class Layer:
    """A weight (8, 3) of 1 and -1 and inputs (4, 8), on a device; products are at most 8."""

    def __init__(self, device: str, lower: torch.dtype) -> None:
        self.device, self.lower = device, lower
        self.values = signs((8, 3), 100)
        self.inputs = signs((4, 8), 101)
        self.upstream = signs((4, 3), 102)
        self.weight = leaf(self.values, device)
        self.x = tensor(self.inputs, device)

    def region(self, **options: Any) -> torch.autocast:
        """A region of autocast in the lower type."""
        return autocast(self.device, self.lower, **options)

    def output(self) -> torch.Tensor:
        """The product of inputs and weight."""
        return torch.mm(self.x, self.weight)

    def backward(self, output: torch.Tensor) -> None:
        """Add the gradient of an output to that of the weight."""
        upstream = tensor(self.upstream, self.device, output.dtype)
        root(output, upstream).backward()

    @property
    def right(self) -> Array:
        """The output."""
        return np.asarray(self.inputs @ self.values)

    @property
    def gradient(self) -> Array:
        """The gradient of the weight."""
        return np.asarray(self.inputs.T @ self.upstream)


Body = Callable[[Layer, str], Iterator[Comparison]]


def trials(device: str, bodies: Mapping[str, Body]) -> Iterator[Trial]:
    """Each body with a layer of its own, in each lower type."""
    for lower in lower_types(device):
        for name, body in bodies.items():
            label = f"{name} {name_of(lower)}"
            yield Custom(label, partial(_run, body, label, lower), lower)


def _run(body: Body, label: str, lower: torch.dtype, device: str) -> Iterator[Comparison]:
    yield from body(Layer(device, lower), label)
