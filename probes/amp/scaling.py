"""Losses are scaled, gradients are unscaled: by powers of two, so that all is exact."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from probes.amp.lower import signs
from probes.amp.regions import autocast, compare_typed, lower_types, name_of
from probes.amp.scalers import SCALE, Counting, Parameters, gradient_types, scaler, started
from probes.contract import Comparison
from probes.kit.gradients import integers, leaf, tensor
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.trial import Custom, Trial, fact, refused

_SINGLE: Final = torch.float32

#: Below the smallest number of float16, and above it times the scale.
_TINY: Final = 2.0**-26
_LARGE_SCALE: Final = 2.0**16

#: Roundings of a norm and a quotient.
_ROUNDINGS: Final = 8


def scaling(device: str) -> Iterator[Trial]:
    """Losses one by one and in lists; gradients of each type, sparse ones, and clipped ones."""
    yield Custom("scale", _scale)
    for dtype in gradient_types(device):
        yield Custom("unscale_", partial(_unscale, dtype), dtype)
    yield Custom("unscale_ (sparse)", _sparse)
    yield Custom("unscale_ (mixed types)", _mixed)
    yield Custom("step", _step)
    yield Custom("step (groups)", _groups)
    yield Custom("clip_grad_norm_", _clipped)
    for lower in lower_types(device):
        yield Custom(f"underflow {name_of(lower)}", partial(_underflow, lower), lower)


def _scale(device: str) -> Iterator[Comparison]:
    """A tensor, lists and tuples within one another; the gradient grows with the loss."""
    made = scaler(device)
    yield fact("scale (before)", made.get_scale(), SCALE)
    values = integers((3,), 160)
    x = leaf(values, device)
    loss = (x * x).sum()
    scaled = made.scale(loss)
    yield compare_typed("scale (loss)", scaled, _SINGLE, SCALE * (values**2).sum())
    scaled.backward()
    yield compare_typed("scale (gradient)", x.grad, _SINGLE, 2 * SCALE * values)
    several: Any = made.scale([x.detach(), (loss.detach(), x[:1].detach())])
    yield fact("scale (types)", (type(several), type(several[1])), (list, tuple))
    yield compare_typed("scale (list)", several[0], _SINGLE, SCALE * values)
    yield compare_typed("scale (tuple)", several[1][1], _SINGLE, SCALE * values[:1])
    yield fact("scale (after)", (made.get_scale(), made.is_enabled()), (SCALE, True))


def _unscale(dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Once for each optimizer; a second time is refused, until update."""
    made, parameters = started(device), Parameters(device, dtype)
    optimizer = Counting(parameters.all)
    parameters.scaled(SCALE)
    label = f"unscale_ ({name_of(dtype)},"
    made.unscale_(optimizer)
    yield from parameters.gradients(label)
    yield refused(f"{label} twice)", partial(made.unscale_, optimizer), "RuntimeError")
    yield from parameters.gradients(f"{label} after the refusal,")
    made.step(optimizer)
    made.update()
    parameters.scaled(SCALE)
    made.unscale_(optimizer)
    yield from parameters.gradients(f"{label} after update,")


def _sparse(device: str) -> Iterator[Comparison]:
    """The gradient of an embedding, with an index that comes twice."""
    made = started(device)
    weight = leaf(integers((6, 3), 161), device)
    places = torch.tensor([4, 0, 4], device=device)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    upstream = integers((3, 3), 162)
    found = torch.nn.functional.embedding(places, weight, sparse=True)
    made.scale((found * tensor(upstream, device)).sum()).backward()
    made.unscale_(optimizer)
    right = np.zeros((6, 3))
    np.add.at(right, [4, 0, 4], upstream)
    gradient = weight.grad
    dense = None if gradient is None else gradient.to_dense()
    yield compare_typed("unscale_ (sparse gradient)", dense, _SINGLE, right)


def _mixed(device: str) -> Iterator[Comparison]:
    """Parameters of several types in one optimizer, one of which has an Inf."""
    types = gradient_types(device)
    for bad in (None, *types):
        made = started(device)
        parts = [Parameters(device, dtype, 10 * i) for i, dtype in enumerate(types)]
        optimizer = Counting([each for part in parts for each in part.all])
        for part in parts:
            part.scaled(SCALE, float("inf") if part.dtype == bad else None)
        made.unscale_(optimizer)
        label = f"unscale_ (mixed types, Inf in {bad and name_of(bad)},"
        for part in parts:
            if part.dtype != bad:
                yield from part.gradients(f"{label} {name_of(part.dtype)},")
        made.step(optimizer)
        yield fact(f"{label} steps)", optimizer.steps, int(bad is None))


def _step(device: str) -> Iterator[Comparison]:
    """A step unscales what was not unscaled before, and nothing twice."""
    for explicit in (False, True):
        made, parameters = started(device), Parameters(device)
        optimizer = Counting(parameters.all)
        for count in (1, 2):
            parameters.scaled(SCALE)
            if explicit:
                made.unscale_(optimizer)
            made.step(optimizer)
            made.update()
            label = f"step ({'after unscale_' if explicit else 'alone'}, {count},"
            yield from parameters.stepped(label, 0.5 * count)
        yield fact("step (steps)", optimizer.steps, 2)


class _Answering(Counting):
    """SGD whose step returns what it is given."""

    def step(self, closure: Any = None) -> Any:
        """Step, and return the argument."""
        super().step()
        return closure


def _groups(device: str) -> Iterator[Comparison]:
    """The parameters of each group are unscaled and searched; a step's argument and answer pass."""
    for bad in (None, float("inf")):
        made = started(device)
        parts = [Parameters(device, salt=20 * i) for i in range(2)]
        optimizer = _Answering([{"params": part.all} for part in parts])
        parts[0].scaled(SCALE)
        parts[1].scaled(SCALE, bad)
        answer = made.step(optimizer, 7)
        made.update()
        yield fact(f"step (groups, {bad}, answer)", answer, None if bad else 7)
        for i, part in enumerate(parts):
            yield from part.stepped(f"step (groups, {bad}, {i},", 0.0 if bad else 0.5)


def _clipped(device: str) -> Iterator[Comparison]:
    """A norm that is clipped between unscale_ and step is that of the true gradients."""
    made, parameters = started(device), Parameters(device)
    optimizer = Counting(parameters.all, lr=1.0)
    parameters.scaled(SCALE)
    made.unscale_(optimizer)
    norm = float(np.sqrt(sum((each**2).sum() for each in parameters.own)))
    limit = norm / 4
    found = torch.nn.utils.clip_grad_norm_(parameters.all, limit)
    made.step(optimizer)
    unit = _ROUNDINGS * UNIT_ROUNDOFF[_SINGLE]
    yield compare_typed("clip_grad_norm_ (norm)", found, _SINGLE, norm, unit * norm)
    for i, own in enumerate(parameters.own):
        right = parameters.start[i] - own * limit / (norm + 1e-6)
        bound = unit * (np.abs(parameters.start[i]) + np.abs(own))
        yield compare_typed(
            f"clip_grad_norm_ (parameter {i})", parameters.leaves[i], _SINGLE, right, bound
        )


def _underflow(lower: torch.dtype, device: str) -> Iterator[Comparison]:
    """A gradient that float16 cannot hold, in a loss that is scaled."""
    made = started(device, init_scale=_LARGE_SCALE)
    x, weight = signs((4, 8), 163), leaf(signs((8, 3), 164), device)
    upstream = signs((4, 3), 165)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    with autocast(device, lower):
        out = torch.mm(tensor(x, device), weight)
        loss = (out * tensor(upstream * _TINY, device)).sum()
    made.scale(loss).backward()
    made.unscale_(optimizer)
    label = f"underflow {name_of(lower)} (weight)"
    yield compare_typed(label, weight.grad, _SINGLE, _TINY * (x.T @ upstream))
