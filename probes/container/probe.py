"""What surrounds a job on this machine, and the findings about it."""

from collections.abc import Iterator

from probes.container import devices, room
from probes.container.observation import Observation, observe
from probes.container.spec import Limits
from probes.contract import Finding

__all__ = ["Limits", "Observation", "judge", "observe"]


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield the findings: a failure only where a promised GPU has no device node."""
    yield devices.device_nodes(observation, limits)
    yield devices.driver_capabilities(observation)
    yield room.shared_memory(observation, limits)
    yield room.open_files(observation, limits)
    yield room.locked_memory(observation)
    yield room.address_space(observation, limits)
    yield room.memory(observation, limits)
    yield room.cores(observation, limits)
    yield room.clock(observation)
    yield room.caches(observation, limits)
