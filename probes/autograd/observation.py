"""What this probe sees: its tables of cases and facts, gone through once on a device."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.autograd import (
    concurrency,
    curves,
    differences,
    elements,
    engine,
    forward,
    functions,
    graphs,
    hooks,
    modes,
    moves,
    network,
    products,
)
from probes.autograd.exact import Case, first_backward, run
from probes.autograd.trial import Facts, gathered
from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.capabilities import back_end, has_dtype
from probes.kit.precision import full_precision

#: Check -> cases, each in float32 and, where marked, float16 and bfloat16.
CASES: Final[dict[str, tuple[Case, ...]]] = {
    "products": products.PRODUCTS,
    "convolutions": products.CONVOLUTIONS,
    "indexing": moves.INDEXING + moves.ADDITIONS,
    "shapes": moves.SHAPES,
    "orders": moves.ORDERS,
    "arithmetic": elements.ARITHMETIC,
    "selections": elements.SELECTIONS,
    "reductions": elements.REDUCTIONS,
    "functions": curves.FUNCTIONS,
    "rows": curves.ROWS,
}

#: In float64 too: kernels of their own, or functions of another precision.
_IN_FLOAT64: Final = ("products", "convolutions", "functions", "rows")

#: Check -> what it sees of the engine, in the order of the catalogue.
ENGINE: Final[dict[str, Callable[[str], engine.Steps]]] = {
    "accumulation": engine.accumulation,
    "zero_grad": engine.zero_grad,
    "scalar_backward": engine.scalar_backward,
    "vector_refused": engine.vector_refused,
    "vector_jacobian": engine.vector_jacobian,
    "grad_function": engine.grad_function,
    "detach": graphs.detach,
    "grad_fn": graphs.grad_fn,
    "leaves": graphs.leaves,
    "no_grad": modes.no_grad,
    "inference_mode": modes.inference_mode,
    "grad_modes": modes.nested,
    "changing_graph": graphs.changing_graph,
    "second_backward": graphs.second_backward,
    "in_place": graphs.in_place,
    "custom_function": functions.custom_function,
    "recomputation": functions.recomputation,
    "saved_tensors": functions.saved_tensors,
}

#: The same, where Python code is called back in a backward.
HOOKS: Final[dict[str, Callable[[str], engine.Steps]]] = {
    "tensor_hooks": hooks.tensor_hooks,
    "node_hooks": hooks.node_hooks,
    "module_hooks": hooks.module_hooks,
    "accumulation_hooks": hooks.accumulation_hooks,
}

#: Check -> the same backward many times over, at last from several threads.
_CONCURRENT: Final[dict[str, Callable[[str], list[Comparison]]]] = {
    "repeated": concurrency.repeated,
    "threads": concurrency.threaded,
}

_Family = Callable[[], list[Comparison]]


class Observation(contract.Observation):
    """Comparisons and facts by check, and why a floating type is not to be had here."""

    families: dict[str, tuple[Comparison, ...]]
    facts: dict[str, Facts]
    without: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Take gradients in every way; the very first one of the process is held too."""
    found = gathered(modes.as_found(device), device)
    # Where a library has switched gradients off, that is one finding and not all of them.
    with (
        warnings.catch_warnings(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        full_precision(),
    ):
        warnings.simplefilter("ignore")  # asking a result for its .grad warns, for one
        return _observed(device, {"grad_enabled": found})


def _observed(device: str, facts: dict[str, Facts]) -> Observation:
    families: dict[str, tuple[Comparison, ...]] = {}
    for check, first in breadcrumb.families({"first_backward": first_backward}):
        families[check] = (first(device),)
    without = {
        str(dtype).removeprefix("torch."): f"the {back_end(device)} back-end has no {dtype}"
        for dtype in (torch.float64, torch.float16, torch.bfloat16)
        if not has_dtype(device, dtype)
    }
    families |= {
        check: tuple(family())
        for check, family in breadcrumb.families(_numbers(device, frozenset(without)))
    }
    facts |= {
        check: gathered(steps(device), device)
        for check, steps in breadcrumb.families({**ENGINE, **HOOKS})
    }
    families |= {check: tuple(family(device)) for check, family in breadcrumb.families(_CONCURRENT)}
    facts |= {
        check: gathered(steps(device), device)
        for check, steps in breadcrumb.families({"thread_modes": concurrency.thread_modes})
    }
    return Observation(families=families, facts=facts, without=without)


def _numbers(device: str, without: frozenset[str]) -> dict[str, _Family]:
    """Check -> what takes its gradients, in those types that the device has."""
    halves = [torch.float16, torch.bfloat16]
    halves = [dtype for dtype in halves if str(dtype).removeprefix("torch.") not in without]
    full = [torch.float32] + ([] if "float64" in without else [torch.float64])

    def of(check: str) -> list[Comparison]:
        wide = full if check in _IN_FLOAT64 else full[:1]
        return [
            run(case, [*wide, *(halves if case.in_halves else ())], device) for case in CASES[check]
        ]

    def networks() -> list[Comparison]:
        return [network.network(dtype, device) for dtype in full]

    found: list[Comparison] = []

    def tight() -> list[Comparison]:
        found.extend(differences.tight(device))
        return found

    in_float64: dict[str, _Family] = {
        "gradcheck_tight": tight,
        "gradcheck": lambda: differences.default(device, found),
        "gradgradcheck": partial(differences.second, device),
    }
    if "float64" in without:
        in_float64.clear()
    return {
        **{check: partial(of, check) for check in CASES},
        "network": networks,
        **in_float64,
        "forward_mode": partial(forward.forward_mode, device),
        "batched": partial(forward.batched, device),
    }
