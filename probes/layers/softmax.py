"""Softmax, softmin and log_softmax."""

from collections.abc import Callable, Iterator

from probes.kit.layer import Backward, Layer, Reference, function, trials
from probes.kit.operands import integers
from probes.kit.rounding import Rounded, exponential, logarithm
from probes.kit.trial import Trial
from probes.layers.elementwise import X


def softmax(device: str) -> Iterator[Trial]:
    """Softmax, softmin and log_softmax along the last axis and along an inner one."""
    references: dict[str, Callable[[int], Reference]] = {
        "softmax": lambda axis: _softmax(axis, 1),
        "softmin": lambda axis: _softmax(axis, -1),
        "log_softmax": _log_softmax,
    }
    wide = (2.0 * integers((4, 130), -96, 95, 172) + 1) / 32
    layers = [
        Layer(name, function(name, dim=axis), (x,), reference(axis), f"axis {axis} of {x.ndim}")
        for name, reference in references.items()
        for x, axis in ((X, 1), (wide, -1))
    ]
    yield from trials(layers, device)


def _shares(x: Rounded, axis: int) -> tuple[Rounded, Rounded]:
    """X less its largest element, and the logarithm of the sum of its exponentials."""
    shifted = x - x.value.max(axis, keepdims=True)
    return shifted, logarithm(exponential(shifted).total(axis))


def _softmax(axis: int, sign: int) -> Reference:
    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        shifted, total = _shares(x if sign > 0 else -x, axis)
        p = exponential(shifted - total)

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            kept = p.stored()  # the backward takes up the result
            terms = (g * kept).stored()  # CUDA's is handed these products
            gradient = terms - kept * terms.total(axis)
            return (gradient if sign > 0 else -gradient,)

        return p, backward

    return reference


def _log_softmax(axis: int) -> Reference:
    def reference(x: Rounded) -> tuple[Rounded, Backward]:
        shifted, total = _shares(x, axis)
        logs = shifted - total

        def backward(g: Rounded) -> tuple[Rounded, ...]:
            return (g - exponential(logs.stored()) * g.total(axis),)

        return logs, backward

    return reference
