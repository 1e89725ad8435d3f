"""The observation: finite differences, and backward passes with a given gradient, on a device."""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.contract import Comparison
from probes.gradcheck import differences, vectors
from probes.kit import breadcrumb
from probes.kit.capabilities import back_end, has_dtype
from probes.kit.facts import Facts, Steps, collect_facts
from probes.kit.gradients import recording

#: Check -> function that yields facts, in the catalogue's order.
FACTS: Final[dict[str, Callable[[str], Steps]]] = {
    "vector_refused": vectors.vector_refused,
    "vector_jacobian": vectors.vector_jacobian,
}

#: Checks that need float64: finite differences in other types are too inaccurate.
OF_FLOAT64: Final = ("defaults", "tight", "second_order")


class Observation(contract.Observation):
    """Comparisons and facts by check; `without`: floating type -> why the device lacks it."""

    families: dict[str, tuple[Comparison, ...]]
    facts: dict[str, Facts]
    without: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Run all comparisons and facts on the device."""
    without = {}
    if not has_dtype(device, torch.float64):
        without["float64"] = f"the {back_end(device)} back-end has no {torch.float64}"
    found: list[Comparison] = []

    def tight() -> list[Comparison]:
        found.extend(differences.tight(device))
        return found

    table: dict[str, Callable[[], list[Comparison]]] = {
        "tight": tight,  # before `defaults`, which computes only what did not pass here
        "defaults": lambda: differences.default(device, found),
        "second_order": partial(differences.second, device),
        "batched": partial(vectors.batched, device),
    }
    if without:
        table = {check: family for check, family in table.items() if check not in OF_FLOAT64}
    with recording():
        families = {check: tuple(family()) for check, family in breadcrumb.families(table)}
        facts = {
            check: collect_facts(steps(device), device)
            for check, steps in breadcrumb.families(FACTS)
        }
    return Observation(families=families, facts=facts, without=without)
