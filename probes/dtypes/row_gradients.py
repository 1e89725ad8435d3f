"""Gradients of norms, distances and Fourier transforms."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probes.kit.layer import SINGLES, Backward, Layer, linear
from probes.kit.operands import integers
from probes.kit.rounding import ROUNDINGS, Rounded, exponential, logarithm, square_root
from probes.kit.typed.linear_maps import POWERS, X


def rows(product_unit: float) -> Iterator[Layer]:
    """Norms and statistics of rows, and distances of all pairs of them.

    `product_unit`: the unit roundoff of float32 products, of which distances are made.
    """
    yield Layer("linalg.vector_norm", lambda x: torch.linalg.vector_norm(x, 2, 1), (X,), _norm)
    points = [np.asarray(integers((30, 4), -3, 3, 76 + salt), np.float64) for salt in range(2)]
    points[1][:, 0] += 7.0  # no distance is 0
    pairs = Layer("cdist", torch.cdist, tuple(points), _distances, dtypes=SINGLES)
    yield replace(pairs, float32_unit=product_unit)
    yield Layer("var", lambda x: x.var(1), (X,), _variance)
    yield Layer("std", lambda x: x.std(1), (X,), _deviation, stored=3)
    yield Layer("logsumexp", lambda x: x.logsumexp(1), (X / 8,), _logsumexp, stored=3)
    yield Layer("prod", lambda x: x.prod(1), (POWERS,), _product)


def _norm(x: Rounded) -> tuple[Rounded, Backward]:
    norm = square_root((x * x).total(1))

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        share = (x / norm.stored()).stored()
        return (share * _column(g),)

    return _flat(norm), backward


def _variance(x: Rounded) -> tuple[Rounded, Backward]:
    """Of n elements, with n - 1 degrees of freedom."""
    freedom = x.value.shape[1] - 1
    apart = x - x.mean(1)
    found = (apart * apart).total(1) / freedom

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        from_stored = (x - x.mean(1).stored()).stored()
        return (from_stored * _column(g).stored() * (2 / freedom),)

    return _flat(found), backward


def _deviation(x: Rounded) -> tuple[Rounded, Backward]:
    variance, _ = _variance(x)
    root = square_root(variance)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        return _variance(x)[1]((g / root.stored() / 2.0).stored())

    return root, backward


def _logsumexp(x: Rounded) -> tuple[Rounded, Backward]:
    found = logarithm(exponential(x).total(1))

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        shares = exponential((x - found.stored(3)).stored())
        return (shares.stored() * _column(g),)

    return _flat(found), backward


def _product(x: Rounded) -> tuple[Rounded, Backward]:
    """Of powers of 2, which is exact."""
    found = x.value.prod(1)

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        return (x.exactly(g.value[:, None] * found[:, None] / x.value),)

    return x.exactly(found), backward


def _column(g: Rounded) -> Rounded:
    return g.moved(lambda array: array[:, None])


def _flat(x: Rounded) -> Rounded:
    return x.moved(lambda array: array[:, 0])


def _distances(x: Rounded, y: Rounded) -> tuple[Rounded, Backward]:
    """The distances of all pairs; their squares are sums of few integers."""

    def spread(vectors: Rounded, axis: int) -> Rounded:
        return vectors.moved(lambda array: np.expand_dims(array, axis))

    apart = spread(x, 1) - spread(y, 0)
    right = square_root((apart * apart).total(2))

    def backward(g: Rounded) -> tuple[Rounded, ...]:
        """Through the product: a sum of weights times the row, less a sum of weighted rows."""
        shares = spread(g, 2) * apart / right
        of_x, of_y = shares.total(1, keepdims=False), (-shares).total(0, keepdims=False)
        weights = np.abs(g.value / right.value[..., 0])
        sizes_x, sizes_y = np.abs(x.value), np.abs(y.value)
        more_x = weights @ sizes_y + weights.sum(1)[:, None] * sizes_x
        more_y = weights.T @ sizes_x + weights.sum(0)[:, None] * sizes_y
        units = (sum(weights.shape) + ROUNDINGS) * x.unit
        return (
            replace(of_x, error=of_x.error + units * more_x),
            replace(of_y, error=of_y.error + units * more_y),
        )

    return right.moved(lambda array: array[..., 0]), backward


def spectra() -> Iterator[Layer]:
    """Transforms and products of 8 elements, as real pairs: linear maps of real numbers."""
    row = np.asarray(integers((3, 8), -6, 6, 78), np.float64)
    pairs = np.asarray(integers((3, 8, 2), -6, 6, 79), np.float64)
    spectrum = np.asarray(integers((3, 5, 2), -6, 6, 80), np.float64)
    spectrum[:, (0, 4), 1] = 0  # those of a real signal are real

    factors = integers((8, 5), -2, 2, 83) + 1j * integers((8, 5), -2, 2, 84)

    def times_factors(x: torch.Tensor) -> torch.Tensor:
        complex_x = torch.view_as_complex(x)
        there = torch.from_numpy(factors).to(x.device, complex_x.dtype)
        return torch.view_as_real(complex_x @ there)

    def real_pairs(array: Any) -> Any:
        return np.stack((array.real, array.imag), -1)

    def complex_of(array: Any) -> Any:
        return np.asarray(array[..., 0] + 1j * array[..., 1])

    def inverse(array: Any) -> Any:
        return np.asarray(np.fft.irfft(complex_of(array), 8))

    for name, call, operand, axes, right in (
        (
            "fft.rfft",
            lambda x: torch.view_as_real(torch.fft.rfft(x)),
            row,
            1,
            lambda b: real_pairs(np.fft.rfft(b)),
        ),
        (
            "fft.fft",
            lambda x: torch.view_as_real(torch.fft.fft(torch.view_as_complex(x))),
            pairs,
            2,
            lambda b: real_pairs(np.fft.fft(complex_of(b))),
        ),
        (
            "fft.irfft",
            lambda x: torch.fft.irfft(torch.view_as_complex(x), 8),
            spectrum,
            2,
            inverse,
        ),
        (
            "conj",
            lambda x: torch.view_as_real(torch.view_as_complex(x).conj().resolve_conj()),
            pairs,
            2,
            lambda b: real_pairs(complex_of(b).conj()),
        ),
        ("mm", times_factors, pairs, 2, lambda b: real_pairs(complex_of(b) @ factors)),
    ):
        rounded = linear(right, axes, weights_off=4.0 if name.startswith("fft") else 0.0)
        yield Layer(name, call, (operand,), rounded, dtypes=SINGLES)
