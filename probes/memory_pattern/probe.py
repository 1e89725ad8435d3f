"""Runs the checks on a device, and judges them."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Final

from probes.contract import Finding
from probes.kit.memory_test import observation
from probes.kit.memory_test.observation import coverage_finding, memory_finding
from probes.kit.memory_test.running import Plan, measure
from probes.kit.memory_test.running import observe as run
from probes.kit.memory_test.trials import Steps, planted, seeded_address
from probes.node import memory_errors
from probes.node.memory_errors import Counters, counters_finding

__all__ = ["FAMILIES", "Observation", "judge", "measure", "observe"]

#: Half of a GPU's free memory, written once and read once; the rest is for who comes.
_SHARE: Final = 0.5
_PASSES: Final = 2
_LIMIT_S: Final = 30.0

#: What at least was tested where nobody took any meanwhile.
_COVERED: Final = 0.45

#: Check -> what is written and read, in the catalogue's order.
FAMILIES: Final[Mapping[str, Steps]] = {"own_address": seeded_address, "planted": planted}


class Observation(observation.Observation):
    """The same, and what the GPU counted before and after; None where it counts nothing."""

    before: Counters | None = None
    after: Counters | None = None


def observe(device: str) -> Observation:
    """Write the pattern to half of the free memory of a device, and read it."""
    plan = Plan(_SHARE, _PASSES, _LIMIT_S, seed=secrets.randbits(64))
    with memory_errors.opened(device) as board:
        before = board.counters()
        fields = run(FAMILIES, device, plan, board.others)
        return Observation(**fields, before=before, after=board.counters())


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check."""
    for name in FAMILIES:
        yield memory_finding(f"memory_pattern.{name}", observation)
    yield coverage_finding("memory_pattern.coverage", observation, _COVERED)
    yield counters_finding("memory_pattern.error_counters", observation.before, observation.after)
