"""Rules of other tools that check a GPU, on workloads like theirs, scored beside our probes.

Why: a rule is worth what it catches. These are the common ones, implemented as published, and run
     under the same faults as the probes.
Fix: nothing: a rule that passes under a fault has missed it.
Ref: https://github.com/wilicc/gpu-burn
     https://docs.pytorch.org/docs/stable/testing.html
     https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.autograd import gradcheck

from probes import contract
from probes.contract import Finding, Measurement, expect
from probes.faults.inject import operations
from probes.kit import breadcrumb
from probes.kit.tensors import refusal

_SIZE: Final = 256
_REPEATS: Final = 3

Array = npt.NDArray[Any]


class Observation(contract.Observation):
    """Whether each rule passes; False also where its work raised."""

    passes: dict[str, bool]
    operations: int = 0  # operations that the injection saw in this process
    matched: int = 0  # those that the fault applies to
    met: int = 0  # those that the fault applies to, in this probe's work


def _matrix(seed: int) -> Array:
    """Values as gpu-burn draws them: uniform over [0, 10), (256, 256) float32."""
    return np.random.default_rng(seed).uniform(0, 10, (_SIZE, _SIZE)).astype(np.float32)


def _references() -> dict[str, Array]:
    """What the workload must compute, in float64."""
    a, b, x, w = (array.astype(np.float64) for array in _OPERANDS)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    shifted = np.exp(a - a.max(1, keepdims=True))
    return {
        "mm": a @ b,
        "bmm": np.stack([a @ b, b @ a]),
        "sum": a.sum(1),
        "conv2d": np.einsum("bchwij,ocij->bohw", windows, w),
        "softmax": shifted / shifted.sum(1, keepdims=True),
    }


_A, _B = _matrix(1), _matrix(2)

#: Two matrices, an image and a filter.
_OPERANDS: Final = (_A, _B, _A[:32, :64].reshape(1, 2, 32, 32), _B[0, :18].reshape(1, 2, 3, 3))

#: Computed at import, for all processes that are forked then.
_EXPECTED: Final = _references()


def _workload_results(device: str) -> dict[str, list[tuple[Array, Array]]]:
    """Run a stress tool's workload: operation -> (output, float64 reference) of each repetition.

    Those tools mostly run one matrix product. This runs a product, a batched one, a sum, a
    convolution and a softmax, with the copies to the device and back.
    """
    a, b, image, kernel = (torch.from_numpy(array).to(device) for array in _OPERANDS)
    work: dict[str, Callable[[], torch.Tensor]] = {
        "mm": lambda: a @ b,
        "bmm": lambda: torch.bmm(torch.stack([a, b]), torch.stack([b, a])),
        "sum": lambda: a.sum(1),
        "conv2d": lambda: nn.functional.conv2d(image, kernel),
        "softmax": lambda: a.softmax(1),
    }
    return {
        name: [(call().cpu().numpy(), _EXPECTED[name]) for _ in range(_REPEATS)]
        for name, call in work.items()
    }


def _finite(pairs: list[tuple[Array, Array]]) -> bool:
    """No NaN and no infinity."""
    return all(bool(np.isfinite(out).all()) for out, _ in pairs)


def _close(pairs: list[tuple[Array, Array]], relative: float, absolute: float) -> bool:
    """`|out - reference| <= absolute + relative * |reference|` everywhere; NaN is not close."""
    return all(
        bool(
            (
                np.abs(out.astype(np.float64) - reference)
                <= absolute + relative * np.abs(reference)
            ).all()
        )
        for out, reference in pairs
    )


def _near_the_first(pairs: list[tuple[Array, Array]]) -> bool:
    """gpu-burn's rule: later results within 1e-3 of the first; NaN is not detected."""
    first = pairs[0][0]
    return not any(bool((np.abs(out - first) > 1e-3).any()) for out, _ in pairs[1:])


#: Rule -> function that returns whether the outputs pass.
RULES: Final[dict[str, Callable[[list[tuple[Array, Array]]], bool]]] = {
    "finite": _finite,
    "allclose_1e-2": partial(_close, relative=1e-2, absolute=1e-2),
    "gpu_burn": _near_the_first,
    # torch.testing's defaults for float32.
    "assert_close": partial(_close, relative=1.3e-6, absolute=1e-5),
}

#: The rule for gradients, which needs float64.
GRADCHECK: Final = "gradcheck"


def _gradcheck_passes(device: str) -> bool:
    """Whether gradcheck, with its defaults, passes for a layer of each common kind."""

    def leaf(*shape: int) -> torch.Tensor:
        values = np.random.default_rng(len(shape)).uniform(-1, 1, shape)
        return torch.from_numpy(values).to(device).requires_grad_()

    functional = nn.functional
    layers: list[tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = [
        (lambda x, w: (x @ w).tanh(), (leaf(3, 4), leaf(4, 2))),
        (functional.conv1d, (leaf(1, 2, 6), leaf(2, 2, 3))),
        (lambda x: x.log_softmax(1), (leaf(2, 3),)),
        (lambda x: x.softmax(1), (leaf(2, 3),)),
        (lambda x: functional.layer_norm(functional.gelu(x), (3,)), (leaf(2, 3),)),
        (functional.scaled_dot_product_attention, (leaf(1, 1, 3, 2),) * 3),
    ]
    return all(
        not refusal(lambda call=call, inputs=inputs: gradcheck(call, inputs, fast_mode=True))  # type: ignore[misc]
        for call, inputs in layers
    )


def observe(device: str) -> Observation:
    """Run the workload of the other tools and apply each rule."""
    tally = operations.TALLY
    before = tally.matched
    tally.calls = 0  # so that a fault of the first calls hits this work too
    passes = dict.fromkeys(RULES, False)

    def work() -> None:
        outputs = _workload_results(device).values()
        passes.update({rule: all(map(passes_rule, outputs)) for rule, passes_rule in RULES.items()})

    def differentiate() -> None:
        passes[GRADCHECK] = False
        passes[GRADCHECK] = _gradcheck_passes(device)

    with np.errstate(all="ignore"):
        for _, part in breadcrumb.families({"work": work, GRADCHECK: differentiate}):
            refusal(part)  # any tool notices an error: the rules stay False
    return Observation(
        passes=passes,
        operations=tally.seen,
        matched=tally.matched,
        met=tally.matched - before,
    )


def judge(observation: Observation) -> Iterator[Finding]:
    """One finding for each rule: `fail` where the rule detects a fault."""
    for rule, passes in observation.passes.items():
        yield expect(f"rivals.{rule}", passes, True)


def measure(observation: Observation) -> Iterator[Measurement]:
    """The counts of operations: seen by the injection, matched by it, matched in this work."""
    for name in ("operations", "matched", "met"):
        yield Measurement(name=name, value=getattr(observation, name), unit="operations")
