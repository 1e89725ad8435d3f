"""Attention and its gradients by their formula in float64, with the error that is allowed.

With P = softmax(S) and O = PV, an upstream gradient G gives dV = P'G, dP = GV',
dS = P(dP - rowsum(GO)), dQ = dS K scale and dK = dS'Q scale.
"""

from typing import Any, NamedTuple

import numpy as np

from probes.attention.bounds import Array, Bounded, Units, exponential, matmul, product


class Forward(NamedTuple):
    """The output, and what backward takes up."""

    output: Bounded  # (..., L, D)
    probabilities: Bounded  # (..., L, S)
    score_errors: Array  # (..., L, S), absolute
    scale: float


class Gradients(NamedTuple):
    """The gradients of the inputs and of the scores."""

    query: Bounded
    key: Bounded
    value: Bounded
    scores: Bounded  # (..., L, S): that of a mask before it was broadcast


def _softmax(scores: Array) -> Array:
    weights: Array = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights


def forward(
    query: Bounded, key: Bounded, value: Bounded, scale: float, bias: Any, by: Units
) -> Forward:
    """Attention; `bias` is added to the scores, -inf where nothing is seen.

    Errors e of the scores change the output by sum P (exp(e) - 1) |V - O| at most, up to the factor
    sum P exp(e); rounding of the probabilities by its share of sum P |V|.
    """
    terms = key.value.shape[-2]
    plain = product(query, key.swapped(), by)
    # Torch's formula multiplies query and key by the root of the scale and stores both.
    magnitude = matmul(query.size, key.size.swapaxes(-1, -2))
    error = (plain.error + 2 * by.stored * magnitude) * abs(scale)
    scores = plain.value * scale + bias
    seen = np.isfinite(scores)
    sizes = np.where(seen, np.abs(scores) + np.abs(plain.value * scale), 0)
    error = np.where(seen, error + by.stored * sizes, 0)

    p = _softmax(scores)
    shares = np.expm1(error)
    growth = 1 + (p * shares).sum(-1, keepdims=True)
    rounding = exponential(by, terms)
    p_error = p * (((1 + shares) * growth) * (1 + rounding) - 1)

    output = matmul(p, value.value)
    centre = value.value.mean(-2, keepdims=True)
    moved = matmul(p * shares, np.abs(value.value - centre))
    moved += (p * shares).sum(-1, keepdims=True) * np.abs(output - centre)
    rounded = (rounding + by.of_sum(terms)) * matmul(p, value.size) + by.stored * np.abs(output)
    total = growth * (moved + rounded)
    if value.error.any():
        total += matmul(p, value.error)
    return Forward(Bounded(output, total), Bounded(p, p_error), error, scale)


def dropped(found: Forward, value: Bounded, kept: Array, by: Units) -> Forward:
    """Attention whose probabilities (..., L, S) are multiplied by `kept` before the values."""
    output = product(_times(found.probabilities, kept, by), value, by)
    return found._replace(output=output)


def backward(
    found: Forward,
    query: Bounded,
    key: Bounded,
    value: Bounded,
    upstream: Bounded,
    by: Units,
    kept: Array | None = None,
) -> Gradients:
    """The gradients for an upstream gradient of the output; `kept` as `dropped` has it."""
    p, output = found.probabilities, found.output
    terms = p.value.shape[-1]
    d_p = product(upstream, value.swapped(), by)
    if kept is None:
        d_value = product(p.swapped(), upstream, by)
    else:
        d_value = product(_times(p, kept, by).swapped(), upstream, by)
        d_p = _times(d_p, kept, by)
    mean = (upstream.value * output.value).sum(-1, keepdims=True)
    # Fused kernels take rowsum(GO), the formula takes rowsum(P dP).
    by_output = (np.abs(upstream.value) * output.error + upstream.error * output.size).sum(-1)
    by_output += by.of_sum(output.value.shape[-1]) * (upstream.size * output.size).sum(-1)
    by_scores = (p.size * d_p.error + p.error * np.abs(d_p.value - mean)).sum(-1)
    by_scores += (exponential(by, terms) + by.of_sum(terms)) * (p.value * d_p.size).sum(-1)
    mean_error = np.maximum(by_output, by_scores)[..., None]

    apart = np.abs(d_p.value - mean)
    d_scores = p.value * (d_p.value - mean)
    error = p.size * (d_p.error + mean_error) + p.error * apart
    error += 2 * by.stored * (p.size * apart) + by.tiny
    scores = Bounded(d_scores, np.where(p.value > 0, error, 0))
    # Query and key were stored multiplied by the root of the scale; so are their gradients.
    d_query = _stored_twice(product(scores, key, by), by).times(found.scale)
    d_key = _stored_twice(product(scores.swapped(), query, by), by).times(found.scale)
    return Gradients(d_query, d_key, d_value, scores)


def _times(x: Bounded, factors: Array, by: Units) -> Bounded:
    """The product with factors that are rounded themselves, stored."""
    value = x.value * factors
    error = x.error * factors
    return Bounded(value, error + (2 * by.inner + by.stored) * (np.abs(value) + error))


def _stored_twice(gradient: Bounded, by: Units) -> Bounded:
    return Bounded(gradient.value, gradient.error + 2 * by.stored * gradient.size)


def grouped(heads: Bounded, groups: int) -> Bounded:
    """Key or value heads repeated for the query heads of their group."""
    return heads.moved(lambda array: array.repeat(groups, 1))


def ungrouped(gradient: Bounded, groups: int, by: Units) -> Bounded:
    """The gradient of heads that were repeated: the sum over each group."""
    batch, heads, *rest = gradient.value.shape
    shape = (batch, heads // groups, groups, *rest)
    parts = gradient.moved(lambda array: array.reshape(shape))
    return parts.summed((2,), by.inner * groups + by.stored).moved(lambda array: array[:, :, 0])
