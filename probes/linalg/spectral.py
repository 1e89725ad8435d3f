"""Gradients of functions of a spectrum that is known by construction."""

import numpy as np

from probes.kit.case import Array
from probes.linalg.matrices import orthogonal, reflections, spectrum


def of_symmetric_product(a: Array, g: Array) -> tuple[Array, ...]:
    """The gradient of A A for a symmetric A, which is symmetric too."""
    even = (g + g.swapaxes(1, 2)) / 2
    return (even @ a + a @ even,)


def values_gradient(salt: int, g: Array) -> tuple[Array, ...]:
    """The gradient Q diag(g) Q' of the eigenvalues of `symmetric` with that salt; g is (2, n)."""
    q = reflections(g.shape[-1], np.float64, salt)
    return ((q * g[:, None]) @ q.swapaxes(1, 2),)


def of_values(salt: int, g: Array) -> tuple[Array, ...]:
    """The gradient of the singular values, descending, of `general` with that salt."""
    reflection = orthogonal(g.shape[-1], np.float64, salt + 7)
    (left,) = values_gradient(salt, g[:, ::-1])
    return (left @ reflection,)


def exponential_gradient(salt: int, g: Array) -> tuple[Array, ...]:
    """The gradient of the exponential of `symmetric` with that salt (Daleckii and Krein).

    Q (F * (Q'GQ)) Q', with F the divided differences of exp at the eigenvalues.
    """
    n = g.shape[-1]
    q, w = reflections(n, np.float64, salt), spectrum(n)
    difference = w[:, None] - w + np.eye(n)
    quotient = np.exp(w)[:, None] * -np.expm1(w - w[:, None]) / difference
    divided = quotient + np.diag(np.exp(w))
    return (q @ (divided * (q.swapaxes(1, 2) @ g @ q)) @ q.swapaxes(1, 2),)
