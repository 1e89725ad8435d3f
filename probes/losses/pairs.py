"""Losses of pairs and triplets of vectors: ranking, cosine, distances."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from probes.kit.layer import SINGLES, Backward, Layer, Reference, function, trials
from probes.kit.operands import coarse, integers
from probes.kit.rounding import Rounded, magnitude, selected, square_root
from probes.kit.trial import Trial
from probes.losses.reductions import losses

_SHAPE: Final = (7, 12)
_A, _B, _C = (coarse(_SHAPE, -2, 2, 320 + salt) for salt in range(3))
_SIGNS: Final = 2.0 * integers((7,), 0, 1, 323) - 1
_SIGNS_OF_ALL: Final = 2.0 * integers(_SHAPE, 0, 1, 324) - 1
#: torch adds it to each difference before the norm.
_EPS: Final = 1e-6
#: It adds 1e-12 to both squared norms of cosine_embedding_loss; they are larger than 1.
_ADDED: Final = 2e-12


def pairs(device: str) -> Iterator[Trial]:
    """Margin ranking, cosine embedding, triplet margins, and the distances themselves."""
    layers = [
        *losses(
            "margin_ranking_loss",
            (_A, _B + 1 / 64),
            partial(_ranking, 0.5),
            _SIGNS_OF_ALL,
            margin=0.5,
        ),
        *losses("cosine_embedding_loss", (_A, _B), partial(_cosine_loss, 0.1), _SIGNS, margin=0.1),
        Layer(
            "cosine_similarity", function("cosine_similarity"), (_A, _B), _cosine, dtypes=SINGLES
        ),
        Layer(
            "cosine_similarity",
            function("cosine_similarity", 0),
            (_A.T.copy(), _B.T.copy()),
            _transposed(_cosine),
            "along the first axis",
            SINGLES,
        ),
        *(
            Layer(
                "pairwise_distance",
                function("pairwise_distance", p=float(p)),
                (_A, _B),
                partial(_distance, p),
                f"p={p}",
                SINGLES,
            )
            for p in (1, 2)
        ),
        *(
            Layer(
                "normalize",
                function("normalize", p=float(p)),
                (_A,),
                partial(_normalized, p),
                f"p={p}",
                SINGLES,
            )
            for p in (1, 2)
        ),
    ]
    for p in (1.0, 2.0):
        for swap in (False, True):
            layers += losses(
                "triplet_margin_loss",
                (_A, _B, _C),
                partial(_triplet, 3.0, int(p), swap=swap),
                margin=3.0,
                p=p,
                swap=swap,
            )
    yield from trials(layers, device)


def _ranking(margin: float, a: Rounded, b: Rounded) -> tuple[Rounded, Backward]:
    """max(0, margin - y (a - b))."""
    value = (a - b) * -_SIGNS_OF_ALL + margin
    active = value.value > 0

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_a = selected(active, g * -_SIGNS_OF_ALL, 0.0)
        return of_a, -of_a

    return selected(active, value, 0.0), backward


def _cosine(a: Rounded, b: Rounded) -> tuple[Rounded, Backward]:
    """A b / (|a| |b|) along the last axis."""
    norms = [square_root((each * each).total(1)) for each in (a, b)]
    units = [each / norm for each, norm in zip((a, b), norms, strict=True)]
    cosine = (units[0] * units[1]).total(1)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        wide = g.moved(lambda array: array[:, None])
        return (
            wide * (units[1] - cosine * units[0]) / norms[0],
            wide * (units[0] - cosine * units[1]) / norms[1],
        )

    return cosine[:, 0], backward


def _cosine_loss(margin: float, a: Rounded, b: Rounded) -> tuple[Rounded, Backward]:
    """1 - cos for pairs that belong together, max(0, cos - margin) for others."""
    cosine, back = _cosine(a, b)
    together = _SIGNS > 0
    apart = selected(cosine.value > margin, cosine - margin, 0.0)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_both = back(g * np.where(together, -1, 1.0 * (cosine.value > margin)))
        size = np.abs(g.value).max() * _ADDED
        return tuple(replace(each, error=each.error + size) for each in of_both)

    loss = selected(together, 1 - cosine, apart)
    return replace(loss, error=loss.error + _ADDED), backward


def _norm(d: Rounded, power: int) -> tuple[Rounded, Rounded]:
    """The norm of rows (B, 1), and its slope for each element."""
    if power == 1:
        return magnitude(d).total(1), d.exactly(np.sign(d.value))
    norm = square_root((d * d).total(1))
    return norm, d / norm


def _transposed(reference: Reference) -> Reference:
    """The reference of transposed operands, whose output has one axis."""

    def whole(*operands: Rounded) -> tuple[Rounded, Backward]:
        out, back = reference(*(each.T for each in operands))
        return out, lambda g: tuple(each.T for each in back(g))

    return whole


def _normalized(power: int, a: Rounded) -> tuple[Rounded, Backward]:
    """Rows divided by their norm."""
    norm, slope = _norm(a, power)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        along = (g * a).total(1)
        return (g / norm - slope * (along / norm / norm),)

    return a / norm, backward


def _distance(power: int, a: Rounded, b: Rounded) -> tuple[Rounded, Backward]:
    norm, slope = _norm(a - b + _EPS, power)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        of_a = g.moved(lambda array: array[:, None]) * slope
        return of_a, -of_a

    return norm[:, 0], backward


def _triplet(
    margin: float, power: int, a: Rounded, b: Rounded, c: Rounded, *, swap: bool
) -> tuple[Rounded, Backward]:
    """max(0, |a - b| - |a - c| + margin); with swap, |b - c| where that is smaller."""
    near, of_near = _norm(a - b + _EPS, power)
    far, of_far = _norm(a - c + _EPS, power)
    other, of_other = _norm(b - c + _EPS, power)
    swapped = (other.value < far.value) if swap else np.zeros_like(far.value, bool)
    value = near - selected(swapped, other, far) + margin
    active = value.value > 0

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        each = selected(active, g.moved(lambda array: array[:, None]), 0.0)
        by_near = each * of_near
        by_far, by_other = (
            selected(np.broadcast_to(mask, _SHAPE), each * slope, 0.0)
            for mask, slope in ((~swapped, of_far), (swapped, of_other))
        )
        return by_near - by_far, -by_near - by_other, by_far + by_other

    return selected(active, value, 0.0)[:, 0], backward
