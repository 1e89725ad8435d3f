"""What this probe sees: its tables of cases and facts, gone through once on a device."""

import warnings
from collections.abc import Callable
from typing import Final

import torch
from pydantic import Field

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
from probes.autograd.concurrency import bounded
from probes.autograd.exact import Case, first_backward, run
from probes.autograd.trial import Facts, gathered, lacks
from probes.contract import Comparison, Observation

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

#: The same, where Python code is called back in a backward: bounded in time.
HOOKS: Final[dict[str, Callable[[str], engine.Steps]]] = {
    "tensor_hooks": hooks.tensor_hooks,
    "node_hooks": hooks.node_hooks,
    "module_hooks": hooks.module_hooks,
    "accumulation_hooks": hooks.accumulation_hooks,
}


class Seen(Observation):
    """Comparisons and facts by check, and why a floating type is not to be had here."""

    families: dict[str, tuple[Comparison, ...]]
    facts: dict[str, Facts]
    without: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Seen:
    """Take gradients in every way; the very first one of the process is held too."""
    found = gathered(modes.as_found(device))
    # Where a library has switched gradients off, that is one finding and not all of them.
    with (
        warnings.catch_warnings(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        warnings.simplefilter("ignore")  # asking a result for its .grad warns, for one
        return _observed(device, {"grad_enabled": found})


def _observed(device: str, facts: dict[str, Facts]) -> Seen:
    families = {"first_backward": [first_backward(device)]}
    halves = [torch.float16, torch.bfloat16]
    without = {
        str(dtype).removeprefix("torch."): why
        for dtype in (torch.float64, *halves)
        if (why := lacks(dtype, device))
    }
    full = [torch.float32] + ([] if "float64" in without else [torch.float64])
    halves = [dtype for dtype in halves if str(dtype).removeprefix("torch.") not in without]
    for check, cases in CASES.items():
        wide = full if check in _IN_FLOAT64 else full[:1]
        families[check] = [
            run(case, [*wide, *(halves if case.in_halves else ())], device) for case in cases
        ]
    families["network"] = [network.network(dtype, device) for dtype in full]
    if "float64" not in without:
        families["gradcheck"], families["gradcheck_tight"] = differences.finite_differences(device)
        families["gradgradcheck"] = differences.second_differences(device)
    families["forward_mode"] = forward.forward_mode(device)
    families["batched"] = forward.batched(device)
    facts |= {check: gathered(steps(device)) for check, steps in ENGINE.items()}
    facts |= {check: bounded(steps, device) for check, steps in HOOKS.items()}
    families["repeated"] = concurrency.repeated(device)
    families["threads"] = concurrency.threaded(device)
    facts["thread_modes"] = gathered(concurrency.thread_modes(device))
    return Seen(
        families={check: tuple(found) for check, found in families.items()},
        facts=facts,
        without=without,
    )
