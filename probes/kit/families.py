"""Families of trials, one family for each check: run on a device, and judged."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from pydantic import Field

from probes import contract
from probes.contract import GPU_BUSY, Comparison, Finding, agree, skipped
from probes.kit import breadcrumb, memory
from probes.kit.capabilities import back_end, capability
from probes.kit.precision import Precision, read
from probes.kit.trial import Trial, run_trials

#: Check -> function that returns the trials of its family on a device.
Families = Mapping[str, Callable[[str], Iterable[Trial]]]

#: In the text of what was left out for want of memory.
OF_MEMORY = " bytes of memory"

HINT = (
    "compare with another device and with the CPU: wrong on one device only, drain it and reset "
    "the GPU; wrong everywhere, reinstall torch as it was pinned"
)


class Observation(contract.Observation):
    """Comparisons by check; families that do not apply to the device are absent."""

    device: str
    families: dict[str, tuple[Comparison, ...]]
    not_implemented: tuple[str, ...] = ()  # families of which the back-end implements nothing
    precision: Precision = Precision()
    back_end: str = ""  # as `probes.kit.capabilities.back_end` names it; "" in old recordings
    capability: tuple[int, int] | None = None  # of an NVIDIA GPU
    #: Family -> operations that the back-end documents as absent, each with the error text, and
    #: those left out for want of memory, or for others who came to the device.
    lacking: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    #: The families that were to be observed; None in old recordings.
    asked: tuple[str, ...] | None = None

    @property
    def back_end_type(self) -> str:
        """The observed back-end; for an old recording, torch's device type."""
        return self.back_end or torch.device(self.device).type


def observe(
    table: Families,
    device: str,
    *,
    threaded: Container[str] = (),
    precision: Precision | None = None,
) -> Observation:
    """Try every operation of every family on the device.

    Args:
        table: the families.
        device: where they run.
        threaded: families that use all host threads; others use one.
        precision: the settings of float32 products to record; by default those in force now.
    """
    families: dict[str, tuple[Comparison, ...]] = {}
    lacking: dict[str, tuple[str, ...]] = {}
    setting = precision or read(device)
    with np.errstate(all="ignore"):  # references have NaN and infinities too
        for name, family in breadcrumb.families(table):
            with _host_threads(None if name in threaded else 1):
                comparisons, absent = run_trials(family(device), device)
            memory.give_back(device)
            if comparisons:
                families[name] = comparisons
            if absent:
                lacking[name] = absent
    return Observation(
        device=device,
        families=families,
        not_implemented=tuple(name for name in lacking if name not in families),
        precision=setting,
        back_end=back_end(device),
        capability=capability(device),
        lacking=lacking,
        asked=tuple(table),
    )


@contextmanager
def _host_threads(count: int | None) -> Iterator[None]:
    """Set the number of host threads (None: leave it), and restore it.

    Small operations are not faster with more threads, and on a busy node threads that spin while
    they wait for each other cost seconds.
    """
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)


def family_finding(
    check: str,
    observation: Observation,
    *,
    hint: str = HINT,
    why: str = "",
    inconclusive: bool = False,
) -> Finding:
    """The finding for one family of operations.

    Args:
        check: its id, `probe.check`; the family has the check's name.
        observation: what was observed.
        hint: what to do if it fails.
        why: the check is skipped for this reason.
        inconclusive: a wrong operation does not prove a fault, so that it is a warning.
    """
    name = check.partition(".")[2]
    why = _not_asked(name, observation) or _not_implemented(name, observation) or why
    if why:
        return skipped(check, why)
    finding = agree(check, observation.families.get(name, ()), hint=hint)
    if finding.status == "fail" and finding.wrong and inconclusive:
        return finding.model_copy(update={"status": "warn"})
    if finding.status == "pass" and (left := _left(name, observation)):
        return skipped(check, left)
    if finding.status == "pass" and (absent := observation.lacking.get(name)):
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        return finding.model_copy(update={"message": f"left out: {absent[0]}{more}"})
    return finding


def wrong_operations(name: str, observation: Observation) -> list[Comparison]:
    """The comparisons of a family that do not hold."""
    return [each for each in observation.families.get(name, ()) if not each.holds]


def raised_with(comparison: Comparison, *texts: str) -> bool:
    """Whether the operation raised an error with one of these texts."""
    problem = comparison.problem.lower()
    return problem.startswith("raised") and any(text in problem for text in texts)


def _not_asked(name: str, observation: Observation) -> str:
    """Why the family is skipped, if the release that made the observation did not have it."""
    asked = observation.families if observation.asked is None else observation.asked
    known = {*asked, *observation.not_implemented}
    return "" if name in known else "this observation was made before there was such a check"


def _left(name: str, observation: Observation) -> str:
    """Who came before all of the family was tried; "" for nobody."""
    told = (text.partition(GPU_BUSY) for text in observation.lacking.get(name, ()))
    return next((f"{busy}{who}" for _, busy, who in told if busy), "")


def _not_implemented(name: str, observation: Observation) -> str:
    """Why the family is skipped, if nothing of it was tried, or the back-end implements nothing."""
    if name not in observation.not_implemented:
        return ""
    if left := _left(name, observation):
        return left
    why = f": {observation.lacking[name][0]}" if observation.lacking.get(name) else ""
    if OF_MEMORY in why:
        return f"not enough memory is free{why}"
    return f"the {observation.back_end_type} back-end implements none of these operations{why}"
