"""The observation: runs the tables of cases and facts once on a device."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.autograd import (
    concurrency,
    curves,
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
from probes.autograd.exact import Case, case_comparison, first_backward
from probes.contract import Comparison
from probes.kit import breadcrumb
from probes.kit.capabilities import back_end, has_dtype
from probes.kit.facts import Facts, Steps, collect_facts
from probes.kit.gradients import recording
from probes.kit.layer import trials
from probes.kit.trial import run_trials
from probes.kit.typed.activations import activations
from probes.kit.typed.activations_in_place import activations_in_place
from probes.kit.typed.in_place_gradients import in_place
from probes.kit.typed.moved_gradients import moves as moves_of_matrices
from probes.kit.typed.moved_gradients import orders, sums
from probes.kit.typed.softmax import softmax

#: Check -> cases, each run in float32 and, if `in_halves`, in float16 and bfloat16.
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

#: Checks also run in float64, which has its own kernels or another precision.
_IN_FLOAT64: Final = ("products", "convolutions", "functions", "rows")

#: Back-ends without a kernel of its gradient compose that in the half type itself.
_COMPOSED: Final = {"mish"}

#: Of `types`: profile standard has all.
_SINGLE_AND_HALF: Final = (torch.float32, torch.float16)

#: Check -> function that yields facts about the engine, in the catalogue's order.
ENGINE: Final[dict[str, Callable[[str], Steps]]] = {
    "accumulation": engine.accumulation,
    "zero_grad": engine.zero_grad,
    "scalar_backward": engine.scalar_backward,
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

#: The same, for checks with Python hooks that a backward calls.
HOOKS: Final[dict[str, Callable[[str], Steps]]] = {
    "tensor_hooks": hooks.tensor_hooks,
    "node_hooks": hooks.node_hooks,
    "module_hooks": hooks.module_hooks,
    "accumulation_hooks": hooks.accumulation_hooks,
}

#: Check -> comparisons of repeated backward passes; threads come last.
_CONCURRENT: Final[dict[str, Callable[[str], list[Comparison]]]] = {
    "repeated": concurrency.repeated,
    "threads": concurrency.threaded,
}

_Family = Callable[[], list[Comparison]]


class Observation(contract.Observation):
    """Comparisons and facts by check; `without`: floating type -> why the device lacks it."""

    families: dict[str, tuple[Comparison, ...]]
    facts: dict[str, Facts]
    without: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Run all cases and facts on the device; the first backward of the process is checked too."""
    found = collect_facts(modes.modes_at_start(device), device)
    # If a library switched gradients off, only `grad_enabled` must fail, not every check.
    with recording():
        return _observation(device, {"grad_enabled": found})


def _observation(device: str, facts: dict[str, Facts]) -> Observation:
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
        for check, family in breadcrumb.families(_numeric_families(device, frozenset(without)))
    }
    facts |= {
        check: collect_facts(steps(device), device)
        for check, steps in breadcrumb.families({**ENGINE, **HOOKS})
    }
    families |= {check: tuple(family(device)) for check, family in breadcrumb.families(_CONCURRENT)}
    facts |= {
        check: collect_facts(steps(device), device)
        for check, steps in breadcrumb.families({"thread_modes": concurrency.thread_modes})
    }
    return Observation(families=families, facts=facts, without=without)


def _numeric_families(device: str, without: frozenset[str]) -> dict[str, _Family]:
    """Check -> function that returns its comparisons, in the types that the device has."""
    halves = [torch.float16, torch.bfloat16]
    halves = [dtype for dtype in halves if str(dtype).removeprefix("torch.") not in without]
    full = [torch.float32] + ([] if "float64" in without else [torch.float64])

    def cases(check: str) -> list[Comparison]:
        wide = full if check in _IN_FLOAT64 else full[:1]
        return [
            case_comparison(case, [*wide, *(halves if case.in_halves else ())], device)
            for case in CASES[check]
        ]

    def networks() -> list[Comparison]:
        return [network.network(dtype, device) for dtype in full]

    def types() -> list[Comparison]:
        """Each in those of the two types in which it is defined."""
        exact = (*moves_of_matrices(), *sums(), *orders(), *in_place())
        rounded = (*activations(), *activations_in_place(), *softmax())
        layers = (
            replace(
                each,
                dtypes=tuple(dtype for dtype in _SINGLE_AND_HALF if dtype in each.dtypes),
                channels_last=False,
            )
            for each in (*exact, *rounded)
            if each.operation not in _COMPOSED
        )
        comparisons, _ = run_trials(trials(layers, device), device)
        return list(comparisons)

    return {
        **{check: partial(cases, check) for check in CASES},
        "types": types,
        "network": networks,
        "forward_mode": partial(forward.forward_mode, device),
    }
