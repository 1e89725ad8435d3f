"""Gradients of integer operands: exact in every type and order of summation, so bits are equal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from probes.autograd.bounded import function_slack, product_unit
from probes.autograd.trial import merged
from probes.contract import Comparison
from probes.kit.capabilities import back_end
from probes.kit.gradients import Array, host, integers, leaf, root, tensor
from probes.kit.references import UNIT_ROUNDOFF, attempted, compare
from probes.kit.tensors import poisoned

#: Allowed error in unit roundoffs of the largest gradient: a library's function has an error of 4
#: ulp (8 units; times `function_slack`), and a gradient takes up to four rounded steps.
FUNCTION_STEPS: Final = 32.0

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """One operation: torch's call, and its gradients from the upstream gradient by NumPy."""

    name: str
    operands: tuple[Array, ...]
    call: Callable[..., torch.Tensor]
    #: (upstream, *operands) -> one gradient for each operand.
    gradients: Callable[..., Sequence[Array]]
    #: Also run in float16 and bfloat16: every partial sum must then be an integer up to 256.
    in_halves: bool = False
    #: 0: bits must be equal. Else the allowed error in unit roundoffs of the largest gradient.
    roundings: float = 0
    #: Also allow the error of a matrix product's factors where settings let them be shortened.
    by_products: bool = False
    #: Allowed absolute error, for a sum that may be computed by another algorithm.
    allowed: float | None = None
    #: The same, on ROCm only.
    allowed_on_hip: float | None = None


def contraction(
    name: str,
    spec: str,
    operands: tuple[Array, ...],
    call: Callable[..., torch.Tensor],
    *,
    in_halves: bool = True,
) -> Case:
    """A case of an einsum, whose gradients are einsums too."""
    inputs, _, output = spec.partition("->")
    letters = inputs.split(",")

    def gradients(upstream: Array, *factors: Array) -> list[Array]:
        """For each factor: the einsum of all others with the upstream gradient."""
        found = []
        for index, wanted in enumerate(letters):
            others = [factor for k, factor in enumerate(factors) if k != index]
            names = [name for k, name in enumerate(letters) if k != index]
            rule = ",".join([*names, output]) + "->" + wanted
            found.append(np.einsum(rule, *others, upstream))
        return found

    return Case(name, operands, call, gradients, in_halves=in_halves)


def movement(
    name: str,
    operands: tuple[Array, ...],
    call: Callable[..., torch.Tensor],
    move_indices: Callable[..., Indices],
    *,
    in_halves: bool = False,
) -> Case:
    """A case of an operation that only moves, repeats or drops elements.

    `move_indices` does the same in NumPy to the indices of the elements (-1: a constant), which
    shows where each element went; its gradient is the sum of the gradients there.
    """

    def gradients(upstream: Array, *values: Array) -> list[Array]:
        ends = np.cumsum([value.size for value in values])[:-1]
        total = sum(value.size for value in values)
        numbered = np.split(np.arange(total), ends)
        indices = [at.reshape(x.shape) for at, x in zip(numbered, values, strict=True)]
        source = move_indices(*indices)
        kept = source >= 0
        weights = upstream[kept]
        summed = np.bincount(source[kept], weights, total).astype(np.float64, copy=False)
        shares = np.split(summed, ends)
        return [share.reshape(x.shape) for share, x in zip(shares, values, strict=True)]

    return Case(name, operands, call, gradients, in_halves=in_halves)


def _gradient_comparison(
    name: str, gradient: torch.Tensor, operand: torch.Tensor, expected: Array, case: Case
) -> Comparison:
    if gradient.dtype != operand.dtype or gradient.device != operand.device:
        wrong = f"a gradient in {gradient.dtype} on {gradient.device}"
        return Comparison(
            operation=name, problem=f"{wrong} for {operand.dtype} on {operand.device}"
        )
    observation = host(gradient)
    exact = np.add(expected, 0.0)  # every zero positive
    if case.roundings:
        unit = UNIT_ROUNDOFF[operand.dtype]
        if case.by_products:
            unit = max(unit, product_unit(operand.dtype, str(operand.device)))
        unit *= case.roundings * function_slack(str(operand.device))
        return compare(name, observation, exact, unit * max(1.0, np.abs(exact).max()))
    allowed = case.allowed
    if allowed is None and back_end(str(operand.device)) == "hip":
        allowed = case.allowed_on_hip
    return compare(name, observation, exact.astype(observation.dtype), allowed)


def case_comparison(case: Case, dtypes: Sequence[torch.dtype], device: str) -> Comparison:
    """A comparison of the case's gradients with NumPy's, in the given types."""
    return merged(case.name, [_comparison_in_dtype(case, dtype, device) for dtype in dtypes])


def _comparison_in_dtype(case: Case, dtype: torch.dtype, device: str) -> Comparison:
    name = f"{case.name} {str(dtype).removeprefix('torch.')}"

    def comparison() -> Comparison:
        leaves = [leaf(values, device, dtype) for values in case.operands]
        output = case.call(*leaves)
        upstream = integers(tuple(output.shape), salt=len(case.operands))
        scalar = root(output, tensor(upstream, device, dtype))
        # All are freed before the backward, so that a gradient that is never written has poisoned
        # memory; the last one is for the scalar's own gradient, which comes first.
        shapes = [*(values.shape for values in case.operands), ()]
        freed = [poisoned(shape, dtype, device) for shape in shapes]
        freed.clear()
        gradients = torch.autograd.grad(scalar, leaves)
        references = case.gradients(upstream, *case.operands)
        return merged(
            name,
            [
                _gradient_comparison(name, gradient, operand, expected, case)
                for gradient, operand, expected in zip(gradients, leaves, references, strict=True)
            ],
        )

    return attempted(name, comparison, device, dtype)


def first_backward(device: str) -> Comparison:
    """A matrix product as the first backward of the process: A.grad is B's row sums, and so on."""

    def comparison() -> Comparison:
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

    return attempted("matmul", comparison, device)
