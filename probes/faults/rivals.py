"""Rules that others use to check a GPU, each on a workload of its own kind: scored beside ours.

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
from probes.kit.tensors import refusal

_SIZE: Final = 256
_REPEATS: Final = 3

Array = npt.NDArray[Any]


class Observation(contract.Observation):
    """What each rule says of what it was shown; a rule that raised says no as well."""

    passes: dict[str, bool]
    operations: int = 0  # that passed the injection in this process,
    matched: int = 0  # those of them that the fault is about, and
    met: int = 0  # those of them in the work done here


def _matrix(seed: int) -> Array:
    """Values as gpu-burn draws them: even over [0, 10), (256, 256) float32."""
    return np.random.default_rng(seed).uniform(0, 10, (_SIZE, _SIZE)).astype(np.float32)


def _worked(device: str) -> dict[str, list[tuple[Array, Array]]]:
    """Outputs and float64 references of a stress tool's work, by operation, each repeated.

    More than those tools do (a product alone, mostly): a product, a batched one, a sum, a
    convolution, a softmax, and the copies to the device and back that each of them needs.
    """
    a, b = _matrix(1), _matrix(2)
    x, w = a[:32, :64].reshape(1, 2, 32, 32), b[0, :18].reshape(1, 2, 3, 3)
    wide = {name: array.astype(np.float64) for name, array in (("a", a), ("b", b))}
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3))
    shifted = np.exp(wide["a"] - wide["a"].max(1, keepdims=True))
    references: dict[str, Array] = {
        "mm": wide["a"] @ wide["b"],
        "bmm": np.stack([wide["a"] @ wide["b"], wide["b"] @ wide["a"]]),
        "sum": wide["a"].sum(1),
        "conv2d": np.einsum("bchwij,ocij->bohw", windows, w.astype(np.float64)),
        "softmax": shifted / shifted.sum(1, keepdims=True),
    }
    there = {name: torch.from_numpy(array).to(device) for name, array in (("a", a), ("b", b))}
    image, kernel = torch.from_numpy(x).to(device), torch.from_numpy(w).to(device)
    work: dict[str, Callable[[], torch.Tensor]] = {
        "mm": lambda: there["a"] @ there["b"],
        "bmm": lambda: torch.bmm(
            torch.stack([there["a"], there["b"]]), torch.stack([there["b"], there["a"]])
        ),
        "sum": lambda: there["a"].sum(1),
        "conv2d": lambda: nn.functional.conv2d(image, kernel),
        "softmax": lambda: there["a"].softmax(1),
    }
    return {
        name: [(call().cpu().numpy(), references[name]) for _ in range(_REPEATS)]
        for name, call in work.items()
    }


def _finite(pairs: list[tuple[Array, Array]]) -> bool:
    """No NaN and no infinity."""
    return all(bool(np.isfinite(out).all()) for out, _ in pairs)


def _close(pairs: list[tuple[Array, Array]], relative: float, absolute: float) -> bool:
    """`|out - reference| <= absolute + relative * |reference|` everywhere; NaN is not close."""
    return all(
        bool((np.abs(out.astype(np.float64) - right) <= absolute + relative * np.abs(right)).all())
        for out, right in pairs
    )


def _like_the_first(pairs: list[tuple[Array, Array]]) -> bool:
    """gpu-burn's rule: later results within 1e-3 of the first; of NaN no comparison is true."""
    first = pairs[0][0]
    return not any(bool((np.abs(out - first) > 1e-3).any()) for out, _ in pairs[1:])


#: A rule of outputs -> whether it is content.
RULES: Final[dict[str, Callable[[list[tuple[Array, Array]]], bool]]] = {
    "finite": _finite,
    "allclose_1e-2": partial(_close, relative=1e-2, absolute=1e-2),
    "gpu_burn": _like_the_first,
    # torch.testing's defaults for float32.
    "assert_close": partial(_close, relative=1.3e-6, absolute=1e-5),
}

#: The rule of gradients, which needs float64.
GRADCHECK: Final = "gradcheck"


def _gradients(device: str) -> bool:
    """Apply gradcheck with its defaults to a layer of each common kind."""

    def given(*shape: int) -> torch.Tensor:
        values = np.random.default_rng(len(shape)).uniform(-1, 1, shape)
        return torch.from_numpy(values).to(device).requires_grad_()

    functional = nn.functional
    layers: list[tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = [
        (lambda x, w: (x @ w).tanh(), (given(3, 4), given(4, 2))),
        (functional.conv1d, (given(1, 2, 6), given(2, 2, 3))),
        (lambda x: x.log_softmax(1), (given(2, 3),)),
        (lambda x: x.softmax(1), (given(2, 3),)),
        (lambda x: functional.layer_norm(functional.gelu(x), (3,)), (given(2, 3),)),
        (functional.scaled_dot_product_attention, (given(1, 1, 3, 2),) * 3),
    ]
    return all(
        not refusal(lambda call=call, inputs=inputs: gradcheck(call, inputs, fast_mode=True))  # type: ignore[misc]
        for call, inputs in layers
    )


def observe(device: str) -> Observation:
    """Work as the others' tools do, and ask each rule."""
    tally = operations.TALLY
    before = tally.matched
    tally.calls = 0  # a fault of the first calls is to be theirs too
    passes = dict.fromkeys((*RULES, GRADCHECK), False)

    def work() -> None:
        outputs = _worked(device).values()
        passes.update({rule: all(map(content, outputs)) for rule, content in RULES.items()})

    def differentiate() -> None:
        passes[GRADCHECK] = _gradients(device)

    with np.errstate(all="ignore"):
        for part in (work, differentiate):
            refusal(part)  # what raised is noticed by any tool: its rules stay at no
    return Observation(
        passes=passes,
        operations=tally.seen,
        matched=tally.matched,
        met=tally.matched - before,
    )


def judge(observation: Observation) -> Iterator[Finding]:
    """A finding a rule: `fail` where it would have raised an alarm."""
    for rule, content in observation.passes.items():
        yield expect(f"rivals.{rule}", content, True)


def measure(observation: Observation) -> Iterator[Measurement]:
    """How many operations the injection saw, how many it was about, how many of them here."""
    for name in ("operations", "matched", "met"):
        yield Measurement(name=name, value=getattr(observation, name), unit="operations")
