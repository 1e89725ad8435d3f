"""Recurrent networks by their cells: layers, both directions, sequences of different lengths."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from probes.kit.rounding import Rounded, joined, selected
from probes.layers.cells import CELLS, Back, State

Mask = npt.NDArray[np.bool_]


class Network(NamedTuple):
    """A recurrent network with its parameters, a list for each layer and direction."""

    kind: str
    layers: int
    directions: int
    parameters: Sequence[Sequence[Rounded]]


class Outputs(NamedTuple):
    """What a network returns, and its gradients."""

    output: Rounded  # (T, B, directions x H), zero beyond the end of a sequence
    states: list[Rounded]  # (layers x directions, B, H) each: hidden, and of an LSTM the cell's
    #: From the gradients of output and states to those of input, states and parameters.
    backward: Callable[[Sequence[Rounded]], list[Rounded]]


class _Pass(NamedTuple):
    """One layer in one direction."""

    output: Rounded  # (T, B, H)
    last: State
    backward: Callable[[Rounded, State], tuple[Rounded, State, list[Rounded]]]


def run(network: Network, x: Rounded, states: Sequence[Rounded], seen: Mask) -> Outputs:
    """Run a network over a batch (T, B, I); `seen` (T, B) says which steps are in a sequence."""
    passes: list[list[_Pass]] = []
    values = x
    for layer in range(network.layers):
        along = []
        for direction in range(network.directions):
            place = layer * network.directions + direction
            first = State(*(each[place] for each in states))
            backwards = direction == 1
            along.append(
                _pass(
                    network.kind,
                    values,
                    first,
                    network.parameters[place],
                    seen,
                    backwards=backwards,
                )
            )
        passes.append(along)
        values = joined([each.output for each in along], 2)
    last = [
        _stacked([_parts(each.last)[part] for along in passes for each in along])
        for part in range(len(states))
    ]

    def backward(g: Sequence[Rounded]) -> list[Rounded]:
        above, *of_states = g
        first: dict[int, State] = {}
        parameters: dict[int, list[Rounded]] = {}
        for layer in reversed(range(network.layers)):
            size = above.value.shape[2] // network.directions
            below: list[Rounded] = []
            for direction in range(network.directions):
                place = layer * network.directions + direction
                part = above[:, :, direction * size : (direction + 1) * size]
                given = State(*(each[place] for each in of_states))
                found, first[place], parameters[place] = passes[layer][direction].backward(
                    part, given
                )
                below.append(found)
            above = below[0] if len(below) == 1 else (below[0] + below[1]).stored()
        places = range(network.layers * network.directions)
        by_state = [
            _stacked([_parts(first[place])[part] for place in places])
            for part in range(len(states))
        ]
        return [above, *by_state, *(each for place in places for each in parameters[place])]

    return Outputs(values, last, backward)


def _pass(
    kind: str,
    x: Rounded,
    first: State,
    parameters: Sequence[Rounded],
    seen: Mask,
    *,
    backwards: bool,
) -> _Pass:
    """One layer in one direction; beyond the end of its sequence a state stays as it is."""
    cell, steps = CELLS[kind], x.value.shape[0]
    order = list(reversed(range(steps))) if backwards else list(range(steps))
    state, outputs, backs = first, {}, {}
    for at in order:
        new, backs[at] = cell(x[at], state, parameters)
        mask = seen[at][:, None]
        outputs[at] = selected(mask, new.hidden, 0.0)
        state = _chosen(mask, new, state)

    def backward(above: Rounded, of_last: State) -> tuple[Rounded, State, list[Rounded]]:
        g, by_step, sums = of_last, {}, list[Rounded]()
        for at in reversed(order):
            mask = seen[at][:, None]
            into = [selected(mask, each, 0.0) for each in _parts(g)]
            into[0] = (into[0] + selected(mask, above[at], 0.0)).stored()
            back: Back = backs[at](State(*into))
            by_step[at] = back.input
            g = _chosen(mask, back.state, g)
            sums = (
                [(a + b).stored() for a, b in zip(sums, back.parameters, strict=True)]
                if sums
                else list(back.parameters)
            )
        return _stacked([by_step[at] for at in range(steps)]), g, sums

    return _Pass(_stacked([outputs[at] for at in range(steps)]), state, backward)


def _chosen(mask: Mask, inside: State, outside: State) -> State:
    """The state where the mask is set, else the other."""
    pairs = zip(_parts(inside), _parts(outside), strict=True)
    return State(*(selected(mask, a, b) for a, b in pairs))


def _parts(state: State) -> list[Rounded]:
    return [part for part in state if part is not None]


def _stacked(parts: Sequence[Rounded]) -> Rounded:
    """The parts along a new first axis."""
    return joined([each.moved(lambda array: array[None]) for each in parts])
