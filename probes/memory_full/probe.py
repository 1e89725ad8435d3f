"""Runs the checks on a device, and judges them."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Final

import torch

from probes.contract import Finding
from probes.kit.memory_test import observation
from probes.kit.memory_test.observation import coverage_finding, memory_finding
from probes.kit.memory_test.running import Plan, measure
from probes.kit.memory_test.running import observe as run
from probes.kit.memory_test.trials import (
    Steps,
    constants,
    inversion,
    own_address,
    planted,
    random_words,
    retention,
)
from probes.node import memory_errors
from probes.node.memory_errors import Counters, counters_finding

__all__ = ["FAMILIES", "Observation", "judge", "measure", "observe"]

#: Of a GPU's own free memory: its driver and torch's operations need some while the test runs.
_SHARE: Final = 0.97

#: Of all checks together: 8, 2, 10, 2 and 4.
_PASSES: Final = 26
_LIMIT_S: Final = 100.0

#: What at least was tested where nobody took any meanwhile.
_COVERED: Final = 0.95

#: How long memory is left to itself: many times the interval in which it is refreshed.
_DWELL_S: Final = {"cpu": 0.3}
_DWELL_S_ELSEWHERE: Final = 2.0


#: Check -> what is written and read, in the catalogue's order; two get the run's own seed.
FAMILIES: Final[Mapping[str, Steps]] = {
    "constants": constants,
    "own_address": own_address,
    "inversion": inversion,
    "random": random_words,
    "retention": retention,
    "planted": planted,
}


class Observation(observation.Observation):
    """The same, and what the GPU counted before and after; None where it counts nothing."""

    before: Counters | None = None
    after: Counters | None = None


def observe(device: str) -> Observation:
    """Write each pattern to nearly all of the free memory of a device, and read it."""
    dwell_s = _DWELL_S.get(torch.device(device).type, _DWELL_S_ELSEWHERE)
    plan = Plan(_SHARE, _PASSES, _LIMIT_S, seed=secrets.randbits(64), dwell_s=dwell_s)
    with memory_errors.opened(device) as board:
        before = board.counters()
        fields = run(FAMILIES, device, plan, board.others)
        return Observation(**fields, before=before, after=board.counters())


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check."""
    for name in FAMILIES:
        yield memory_finding(f"memory_full.{name}", observation)
    yield coverage_finding("memory_full.coverage", observation, _COVERED)
    yield counters_finding("memory_full.error_counters", observation.before, observation.after)
