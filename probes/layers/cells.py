"""The cells of recurrent layers by torch's documented formulas, forward and backward.

A parameter's shapes are torch's: w_ih (gates x H, I), w_hh (gates x H, H or P), b_ih, b_hh, and
w_hr (P, H) where the hidden state of an LSTM is projected. Gates of an LSTM are i, f, g, o; those
of a GRU r, z, n.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from probes.kit.rounding import Rounded, hyperbolic_tangent, joined, logistic, selected


class State(NamedTuple):
    """The hidden state (B, H) and, of an LSTM, the cell's (B, H)."""

    hidden: Rounded
    cell: Rounded | None = None


class Back(NamedTuple):
    """The gradients of one step: of its input, of the state before it, of the parameters."""

    input: Rounded
    state: State
    parameters: tuple[Rounded, ...]


Step = tuple[State, Callable[[State], Back]]
Cell = Callable[[Rounded, State, Sequence[Rounded]], Step]

#: Kind -> blocks of rows in its weights.
GATES: Final = {"RNN": 1, "RNN relu": 1, "LSTM": 4, "GRU": 3}


def _product(x: Rounded, weight: Rounded, bias: Sequence[Rounded]) -> Rounded:
    """X W' + b, where a half type may store the product and the sum."""
    found = (x @ weight.T).stored()
    return (found + bias[0]).stored() if bias else found


def _affine(x: Rounded, state: State, p: Sequence[Rounded]) -> tuple[Rounded, Rounded]:
    """The contributions of the input and of the hidden state to the gates."""
    biased = len(p) > 3
    by_input = _product(x, p[0], p[2:3] if biased else ())
    return by_input, _product(state.hidden, p[1], p[3:4] if biased else ())


def _back(
    x: Rounded, state: State, p: Sequence[Rounded], by_input: Rounded, by_hidden: Rounded
) -> tuple[Rounded, Rounded, list[Rounded]]:
    """Gradients of input, hidden state and parameters from those of both contributions."""
    of_input, of_hidden = by_input.stored(), by_hidden.stored()
    parameters = [of_input.T @ x, of_hidden.T @ state.hidden]
    if len(p) > 3:
        parameters += [each.total(0, keepdims=False) for each in (of_input, of_hidden)]
    return (of_input @ p[0]).stored(), (of_hidden @ p[1]).stored(), parameters


def plain(x: Rounded, state: State, p: Sequence[Rounded], *, relu: bool = False) -> Step:
    """H' = tanh(W x + b + U h + c), or relu of it."""
    total = sum_of(*_affine(x, state, p))
    positive = total.value > 0
    hidden = (selected(positive, total, 0.0) if relu else hyperbolic_tangent(total)).stored()

    def backward(g: State) -> Back:
        d = selected(positive, g.hidden, 0.0) if relu else g.hidden * (1 - hidden * hidden)
        of_input, of_hidden, parameters = _back(x, state, p, d, d)
        return Back(of_input, State(of_hidden), tuple(parameters))

    return State(hidden), backward


def lstm(x: Rounded, state: State, p: Sequence[Rounded]) -> Step:
    """C' = f c + i g and h' = o tanh(c'), projected where there is a w_hr."""
    projection = p[-1] if len(p) in {3, 5} else None
    p = p[: len(p) - 1] if projection is not None else p
    gates = _quarters(sum_of(*_affine(x, state, p)))
    i, f, o = (logistic(gates[place]).stored() for place in (0, 1, 3))
    g = hyperbolic_tangent(gates[2]).stored()
    before = _cell(state)
    cell = ((f * before).stored() + (i * g).stored()).stored()
    t = hyperbolic_tangent(cell).stored()
    long = (o * t).stored()
    hidden = long if projection is None else (long @ projection.T).stored()

    def backward(above: State) -> Back:
        d_long = above.hidden
        extra: tuple[Rounded, ...] = ()
        if projection is not None:
            extra = (d_long.T @ long,)
            d_long = (d_long @ projection).stored()
        d_cell = (_cell(above) + d_long * o * (1 - t * t)).stored()
        parts = [
            d_cell * g * i * (1 - i),
            d_cell * before * f * (1 - f),
            d_cell * i * (1 - g * g),
            d_long * t * o * (1 - o),
        ]
        d = joined(parts, 1).stored()
        of_input, of_hidden, parameters = _back(x, state, p, d, d)
        return Back(of_input, State(of_hidden, (d_cell * f).stored()), (*parameters, *extra))

    return State(hidden, cell), backward


def gru(x: Rounded, state: State, p: Sequence[Rounded]) -> Step:
    """N = tanh(A_n + r B_n), h' = (1 - z) n + z h; A of the input, B of the hidden state."""
    by_input, by_hidden = _affine(x, state, p)
    size = state.hidden.value.shape[1]
    a, b = (
        [part[:, at : at + size] for at in range(0, 3 * size, size)]
        for part in (by_input, by_hidden)
    )
    r, z = (logistic(sum_of(a[gate], b[gate])).stored() for gate in (0, 1))
    n = hyperbolic_tangent(sum_of(a[2], (r * b[2]).stored())).stored()
    hidden = (n + (z * (state.hidden - n)).stored()).stored()

    def backward(g: State) -> Back:
        d_n = (g.hidden * (1 - z)).stored() * (1 - n * n)
        d_z = (g.hidden * (state.hidden - n)).stored() * z * (1 - z)
        d_r = (d_n * b[2]).stored() * r * (1 - r)
        d_input = joined([d_r, d_z, d_n], 1)
        d_hidden = joined([d_r, d_z, d_n * r], 1)
        of_input, of_hidden, parameters = _back(x, state, p, d_input, d_hidden)
        straight = (g.hidden * z).stored()
        return Back(of_input, State((of_hidden + straight).stored()), tuple(parameters))

    return State(hidden), backward


def relu(x: Rounded, state: State, p: Sequence[Rounded]) -> Step:
    """The plain cell with relu."""
    return plain(x, state, p, relu=True)


CELLS: Final[dict[str, Cell]] = {"RNN": plain, "RNN relu": relu, "LSTM": lstm, "GRU": gru}


def sum_of(a: Rounded, b: Rounded) -> Rounded:
    """The sum, stored."""
    return (a + b).stored()


def _cell(state: State) -> Rounded:
    """The state of an LSTM's cell."""
    if state.cell is None:
        raise ValueError("an LSTM has two states")
    return state.cell


def _quarters(gates: Rounded) -> list[Rounded]:
    size = gates.value.shape[1] // 4
    return [gates[:, at : at + size] for at in range(0, 4 * size, size)]
