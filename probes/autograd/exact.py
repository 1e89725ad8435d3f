"""Gradients of integer operands: exact in every type and order of summation, so bits must agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from probes.autograd.bounded import function_slack, product_unit
from probes.autograd.trial import Array, host, integers, leaf, merged, tensor
from probes.contract import Comparison
from probes.kit.capabilities import back_end
from probes.kit.references import UNIT_ROUNDOFF, attempted, compare
from probes.kit.tensors import poisoned

#: Unit roundoffs of the largest gradient: a library's function may be off by 4 ulp (8 units; on
#: some back-ends `function_slack` times that), and a gradient takes up to four rounded steps.
FUNCTION_STEPS: Final = 32.0

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One operation: torch's call, and its gradients by NumPy from the upstream gradient."""

    name: str
    operands: tuple[Array, ...]
    call: Callable[..., torch.Tensor]
    #: (upstream, *operands) -> one gradient for each operand.
    gradients: Callable[..., Sequence[Array]]
    #: Also in float16 and bfloat16; every partial sum is then an integer up to 256.
    in_halves: bool = False
    #: 0: bits. Else how many unit roundoffs of the largest gradient it may be off.
    roundings: float = 0
    #: Also off by what a matrix product's factors lose where settings let them be shortened.
    by_products: bool = False
    #: How far from the integer a sum may be that is not computed as a plain sum.
    allowed: float | None = None
    #: The same on ROCm alone.
    allowed_on_hip: float | None = None


def contraction(
    name: str,
    spec: str,
    operands: tuple[Array, ...],
    call: Callable[..., torch.Tensor],
    *,
    in_halves: bool = True,
) -> Case:
    """A product summed by Einstein's rule, whose gradients are such products too."""
    inputs, _, output = spec.partition("->")
    letters = inputs.split(",")

    def gradients(upstream: Array, *factors: Array) -> list[Array]:
        """For each factor: the product of all others with the upstream gradient."""
        found = []
        for place, wanted in enumerate(letters):
            others = [factor for k, factor in enumerate(factors) if k != place]
            names = [name for k, name in enumerate(letters) if k != place]
            rule = ",".join([*names, output]) + "->" + wanted
            found.append(np.einsum(rule, *others, upstream))
        return found

    return Case(name, operands, call, gradients, in_halves=in_halves)


def movement(
    name: str,
    operands: tuple[Array, ...],
    call: Callable[..., torch.Tensor],
    moved: Callable[..., Places],
    *,
    in_halves: bool = False,
) -> Case:
    """An operation that only moves, repeats or drops elements.

    `moved` does the same in NumPy with the elements' numbers (-1: filled with a constant), and so
    tells where each one went: its gradient is the sum of what comes back from there.
    """

    def gradients(upstream: Array, *values: Array) -> list[Array]:
        ends = np.cumsum([value.size for value in values])[:-1]
        total = sum(value.size for value in values)
        numbered = np.split(np.arange(total), ends)
        places = [at.reshape(x.shape) for at, x in zip(numbered, values, strict=True)]
        source = moved(*places)
        kept = source >= 0
        weights = upstream[kept]
        back = np.bincount(source[kept], weights, total).astype(np.float64, copy=False)
        shares = np.split(back, ends)
        return [share.reshape(x.shape) for share, x in zip(shares, values, strict=True)]

    return Case(name, operands, call, gradients, in_halves=in_halves)


def _held(
    name: str, gradient: torch.Tensor, of: torch.Tensor, expected: Array, case: Case
) -> Comparison:
    if gradient.dtype != of.dtype or gradient.device != of.device:
        wrong = f"a gradient in {gradient.dtype} on {gradient.device}"
        return Comparison(operation=name, problem=f"{wrong} for {of.dtype} on {of.device}")
    observation = host(gradient)
    exact = np.add(expected, 0.0)  # every zero positive
    if case.roundings:
        unit = UNIT_ROUNDOFF[of.dtype]
        if case.by_products:
            unit = max(unit, product_unit(of.dtype, str(of.device)))
        unit *= case.roundings * function_slack(str(of.device))
        return compare(name, observation, exact, unit * max(1.0, np.abs(exact).max()))
    allowed = case.allowed
    if allowed is None and back_end(str(of.device)) == "hip":
        allowed = case.allowed_on_hip
    return compare(name, observation, exact.astype(observation.dtype), allowed)


def run(case: Case, dtypes: Sequence[torch.dtype], device: str) -> Comparison:
    """That case's gradients in those types, held against NumPy's."""
    return merged(case.name, [_typed(case, dtype, device) for dtype in dtypes])


def _typed(case: Case, dtype: torch.dtype, device: str) -> Comparison:
    name = f"{case.name} {str(dtype).removeprefix('torch.')}"

    def held() -> Comparison:
        leaves = [leaf(values, device, dtype) for values in case.operands]
        output = case.call(*leaves)
        upstream = integers(tuple(output.shape), salt=len(case.operands))
        weights = tensor(upstream, device, dtype)
        for values in case.operands:
            # Freed at once: an allocator hands the poison to a gradient that is never written.
            poisoned(values.shape, dtype, device)
        gradients = torch.autograd.grad(output, leaves, weights)
        references = case.gradients(upstream, *case.operands)
        return merged(
            name,
            [
                _held(name, gradient, of, expected, case)
                for gradient, of, expected in zip(gradients, leaves, references, strict=True)
            ],
        )

    return attempted(name, held, device, dtype)


def first_backward(device: str) -> Comparison:
    """The plainest case, and the first backward of a process: A.grad is B's row sums, and so on."""

    def held() -> Comparison:
        left, right = integers((9, 13), 1), integers((13, 11), 2)
        a, b = leaf(left, device), leaf(right, device)
        (a @ b).sum().backward()
        if a.grad is None or b.grad is None:
            return Comparison(operation="matmul", problem="backward() left no gradient")
        ones = np.ones((9, 11))
        return merged(
            "matmul",
            [
                compare("matmul, of A", host(a.grad), (ones @ right.T).astype(np.float32)),
                compare("matmul, of B", host(b.grad), (left.T @ ones).astype(np.float32)),
            ],
        )

    return attempted("matmul", held, device)
