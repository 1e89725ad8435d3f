"""Runs the checks on a device, and judges them."""

from collections.abc import Iterator, Mapping
from typing import Final

from probes.contract import Finding
from probes.kit.memory_test import observation
from probes.kit.memory_test.observation import memory_finding
from probes.kit.memory_test.running import measure
from probes.kit.memory_test.running import observe as run
from probes.kit.memory_test.trials import Steps, own_address, planted
from probes.node import memory_errors
from probes.node.memory_errors import Counters, counters_finding

__all__ = ["FAMILIES", "Observation", "judge", "measure", "observe"]

#: Of a GPU's free memory.
_SHARE: Final = 0.5

#: Check -> what is written and read, in the catalogue's order.
FAMILIES: Final[Mapping[str, Steps]] = {"own_address": own_address, "planted": planted}


class Observation(observation.Observation):
    """The same, and what the GPU counted before and after; None where it counts nothing."""

    before: Counters | None = None
    after: Counters | None = None


def observe(device: str) -> Observation:
    """Write the pattern to half of the free memory of a device, and read it."""
    with memory_errors.opened(device) as board:
        before = board.counters()
        fields = run(FAMILIES, device, _SHARE, board.others)
        return Observation(**fields, before=before, after=board.counters())


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check."""
    for name in FAMILIES:
        yield memory_finding(f"memory_pattern.{name}", observation)
    yield counters_finding("memory_pattern.error_counters", observation.before, observation.after)
