"""The weight cache: the cast of a float32 weight is made once in a region, and forgotten after it.

torch does not promise that a weight which is changed in place within a region is cast again there,
nor that a weight can be used under two lower types in regions within one another: no release does.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import numpy as np
import torch

from probes.amp.layers import Body, Layer, trials
from probes.amp.regions import compare_typed, interrupt
from probes.contract import Comparison
from probes.kit.gradients import leaf
from probes.kit.trial import Trial, fact

_SINGLE: Final = torch.float32

#: More weights than a region's cache could keep apart by their addresses alone.
_WEIGHTS: Final = 48


def weight_cache(device: str) -> Iterator[Trial]:
    """Shared within a region, with its gradients; new behind it; none where it is off."""
    yield from trials(device, _BODIES)


def _used_twice(layer: Layer, label: str) -> Iterator[Comparison]:
    """Each with a backward of its own, and both in one."""
    with layer.region():
        first, second = layer.output(), layer.output()
        both = layer.output() + layer.output()
    yield compare_typed(f"{label} (first)", first, layer.lower, layer.right)
    yield compare_typed(f"{label} (second)", second, layer.lower, layer.right)
    layer.backward(first)
    layer.backward(second)
    yield compare_typed(f"{label} (weight)", layer.weight.grad, _SINGLE, 2 * layer.gradient)
    layer.backward(both)
    yield compare_typed(f"{label} (weight, in one)", layer.weight.grad, _SINGLE, 4 * layer.gradient)


def _changed_between(layer: Layer, label: str) -> Iterator[Comparison]:
    """As an optimizer's step changes it; after an exception too."""
    with layer.region():
        layer.output()
    _negate(layer)
    with layer.region():
        out = layer.output()
    yield compare_typed(f"{label} (next region)", out, layer.lower, layer.right)
    with suppress(InterruptedError), layer.region():
        layer.output()
        interrupt()
    _negate(layer)
    with layer.region(), layer.region():
        out = layer.output()
    yield compare_typed(f"{label} (after an exception)", out, layer.lower, layer.right)


def _negate(layer: Layer) -> None:
    with torch.no_grad():
        layer.weight.neg_()
    layer.values = -layer.values


def _switched_off(layer: Layer, label: str) -> Iterator[Comparison]:
    """With cache_enabled=False a change counts at once; within a region that caches too."""
    with layer.region(cache_enabled=False):
        first = layer.output()
        before = layer.right
        _negate(layer)
        second = layer.output()
    yield compare_typed(f"{label} (before)", first, layer.lower, before)
    yield compare_typed(f"{label} (changed)", second, layer.lower, layer.right)
    with layer.region():
        layer.output()
        with layer.region(cache_enabled=False):
            _negate(layer)
            inner = layer.output()
    yield compare_typed(f"{label} (inner region)", inner, layer.lower, layer.right)
    layer.backward(inner)
    yield compare_typed(f"{label} (weight)", layer.weight.grad, _SINGLE, layer.gradient)


def _short_lived(layer: Layer, label: str) -> Iterator[Comparison]:
    """Weights that are freed and made again, whose memory and objects are used again."""
    observed, expected = [], []
    with layer.region():
        for count in range(_WEIGHTS):
            values = (1.0 + count % 7) * layer.values
            observed.append(torch.mm(layer.x, leaf(values, layer.device)))
            expected.append(layer.inputs @ values)
    yield compare_typed(label, torch.stack(observed), layer.lower, np.stack(expected))


def _frozen(layer: Layer, label: str) -> Iterator[Comparison]:
    """A weight that stops to require gradients, and requires them again."""
    with layer.region():
        layer.output()
        layer.weight.requires_grad_(False)
        frozen = layer.output()
        layer.weight.requires_grad_()
        out = layer.output()
    yield fact(f"{label} (frozen)", frozen.requires_grad, False)
    yield compare_typed(f"{label} (frozen)", frozen, layer.lower, layer.right)
    layer.backward(out)
    yield compare_typed(f"{label} (weight)", layer.weight.grad, _SINGLE, layer.gradient)


_BODIES: Final[dict[str, Body]] = {
    "used twice": _used_twice,
    "changed between": _changed_between,
    "cache_enabled=False": _switched_off,
    "short-lived weights": _short_lived,
    "frozen": _frozen,
}
