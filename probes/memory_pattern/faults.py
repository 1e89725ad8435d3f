"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Fault
from probes.faults.memory import BLIND, counted, on_memory

_on_memory = partial(on_memory, "memory_pattern")
_counted = partial(counted, "memory_pattern")

FAULTS: Final[tuple[Fault, ...]] = (
    _on_memory("stuck", "own_address", spares="planted error_counters"),
    _on_memory("aliased", "own_address"),
    _on_memory("unwritten", "own_address planted"),
    _on_memory("misread", "own_address"),
    _on_memory("idle", "own_address planted", event=BLIND),
    _on_memory("blind", "planted", spares="own_address", event=BLIND),
    _on_memory("scarce", "coverage"),
    _counted("uncorrected"),
    _counted("corrected"),
    _counted("remap_pending"),
)
