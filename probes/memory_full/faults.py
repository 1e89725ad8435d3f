"""The faults for the checks of this probe."""

from functools import partial
from typing import Final

from probes.faults.fault import Fault
from probes.faults.memory import BLIND, counted, on_memory

_on_memory = partial(on_memory, "memory_full")

FAULTS: Final[tuple[Fault, ...]] = (
    _on_memory("stuck", "constants own_address"),
    _on_memory("aliased", "own_address", spares="constants"),
    _on_memory("sluggish", "inversion", spares="own_address"),
    _on_memory("sensitive", "random", spares="own_address"),
    _on_memory("fading", "retention"),
    _on_memory("unwritten", "constants random"),
    _on_memory("blind", "planted", event=BLIND),
    _on_memory("scarce", "coverage"),
    counted("memory_full", "remapped_uncorrected"),
)
