"""Runs a problem on a device and compares its outputs with the reference."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.attention.bounds import Array, Bounded, Units, units
from probes.attention.problems import Problem, expected, gradients, operands
from probes.contract import Comparison
from probes.kit.gradients import root, tensor
from probes.kit.references import compare
from probes.kit.tensors import poisoned

_HALVES: Final = (torch.float16, torch.bfloat16)

#: Roundings to nearest of thousands of elements have no common direction, so that their sum grows
#: with the root of their number (Higham and Mary, A New Approach to Probabilistic Rounding Error
#: Analysis, 2019). What a half type leaves of them in the mean over one head is below one unit
#: where every intermediate is stored in it; four are allowed.
_MEAN_UNITS: Final = 4

#: Keys of a longer mask that are cut off, as models do whose cache has room for more.
_CUT: Final = 8


class Attempt:
    """A problem's tensors on a device, as models lay them out, and its outputs."""

    def __init__(
        self, problem: Problem, device: str, dtype: torch.dtype, *, gradients: bool = False
    ) -> None:
        self.problem, self.device, self.dtype = problem, device, dtype
        each = operands(problem)
        arrays: tuple[Array, ...] = (each.query, each.key, each.value)
        if problem.layout == "packed":  # one projection: (B, L, 3, H, D)
            arrays = (np.stack([array.transpose(0, 2, 1, 3) for array in arrays], 2),)
        elif problem.layout == "transposed":  # (B, L, H, D)
            arrays = tuple(array.transpose(0, 2, 1, 3) for array in arrays)
        elif problem.layout == "flat":  # (B, L, D)
            arrays = tuple(array[:, 0] for array in arrays)
        self.leaves = [self._tensor(array).requires_grad_(gradients) for array in arrays]
        self.views = self._by_heads(self.leaves)
        self.mask = self._masked(gradients=gradients) if problem.mask else None

    def _masked(self, *, gradients: bool) -> torch.Tensor:
        """The mask; in a transposed layout the beginning of a longer one, with its strides."""
        problem, values = self.problem, self.problem.mask_values()
        cut = problem.layout == "transposed" and values.shape[-1] == problem.keys
        if cut:  # the opposite of the first keys follows
            other = ~values if problem.mask == "bool" else -values - 1
            values = np.concatenate([values, other[..., :_CUT]], -1)
        if problem.mask == "bool":
            mask = torch.from_numpy(values).to(self.device)
        else:
            mask = self._tensor(values)
        mask = mask[..., : problem.keys] if cut else mask
        return mask.requires_grad_(gradients and problem.mask == "float")

    def _tensor(self, values: Array) -> torch.Tensor:
        return tensor(values, self.device, self.dtype)

    def _by_heads(self, stored: list[torch.Tensor]) -> list[torch.Tensor]:
        """Query, key and value (B, H, L, D), flat (B, L, D), of tensors in the problem's layout."""
        if self.problem.layout == "packed":
            stored = list(stored[0].unbind(2))
        transposes = self.problem.layout in {"packed", "transposed"}
        return [each.transpose(1, 2) for each in stored] if transposes else stored

    def options(self) -> dict[str, Any]:
        """The options of the call; those that are the default are left out."""
        problem = self.problem
        options: dict[str, Any] = {}
        if self.mask is not None:
            options["attn_mask"] = self.mask
        if problem.causal:
            options["is_causal"] = True
        if problem.scale is not None:
            options["scale"] = problem.scale
        if problem.groups > 1:
            options["enable_gqa"] = True
        return options

    def output(self) -> torch.Tensor:
        """The output of the call, which probably gets memory that was poisoned."""
        problem = self.problem
        width = problem.value_size or problem.size
        shape = (problem.batch, problem.heads, problem.length, width)
        poisoned(shape, self.dtype, self.device)
        call: Any = torch.nn.functional.scaled_dot_product_attention
        out: torch.Tensor = call(*self.views, **self.options())
        return out.unsqueeze(1) if problem.layout == "flat" and out.dim() == 3 else out

    def gradients(self, output: torch.Tensor) -> dict[str, torch.Tensor]:
        """The gradients of an output, in the shapes of query, key, value and mask."""
        leaves = list(self.leaves)
        if self.problem.mask == "float" and self.mask is not None:
            leaves.append(self.mask)
        upstream = operands(self.problem).upstream
        given = self._tensor(upstream)
        if self.problem.layout != "contiguous":  # as a reshape of the heads behind it gives it
            given = self._tensor(upstream.transpose(0, 2, 1, 3)).transpose(1, 2)
        found = list(torch.autograd.grad(root(output, given), leaves))
        mask = {"mask": found.pop()} if len(leaves) > len(self.leaves) else {}
        parts = self._by_heads(found)
        if self.problem.layout == "flat":
            parts = [part.unsqueeze(1) for part in parts]
        return dict(zip(("query", "key", "value"), parts, strict=True)) | mask


def name_of(dtype: torch.dtype) -> str:
    """The type's name without its module."""
    return str(dtype).removeprefix("torch.")


def compare_output(problem: Problem, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Compare the output of one call."""
    by = units(device, dtype)
    out = Attempt(problem, device, dtype).output()
    label = f"scaled_dot_product_attention {name_of(dtype)} ({problem})"
    yield from compare_bounded(label, out, expected(problem, by).output, dtype, by)


def compare_gradients(problem: Problem, dtype: torch.dtype, device: str) -> Iterator[Comparison]:
    """Compare the gradients of one call."""
    by = units(device, dtype)
    attempt = Attempt(problem, device, dtype, gradients=True)
    found = attempt.gradients(attempt.output())
    for name, right in gradients(problem, by).items():
        label = f"gradient of {name} {name_of(dtype)} ({problem})"
        yield from compare_bounded(label, found[name], right, dtype, by)


def compare_bounded(
    label: str, found: torch.Tensor, right: Bounded, dtype: torch.dtype, by: Units
) -> Iterator[Comparison]:
    """Compare each element, its type, and in half types the mean over each matrix (or vector).

    The bound of an element counts every rounding in the worst direction; the mean sees what is
    wrong by a few units everywhere.
    """
    if found.dtype != dtype:
        yield Comparison(operation=label, problem=f"{found.dtype} where {dtype} is right")
        return
    yield compare(label, found, right.value, right.error)
    if dtype in _HALVES and tuple(found.shape) == right.value.shape:
        axes = tuple(range(-min(2, right.value.ndim), 0))
        weight = right.value / (right.value**2).sum(axes, keepdims=True)
        mean = (found.detach().cpu().double().numpy() * weight).sum(axes)
        allowed = _MEAN_UNITS * by.stored
        yield compare(label.replace(" (", " (mean, ", 1), mean, np.ones_like(mean), allowed)
