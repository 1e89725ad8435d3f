"""All faults, as one literal table in a file a kind."""

from typing import Final

from probes.faults.fault import Fault
from probes.faults.table.calls import CALLS
from probes.faults.table.gradients import GRADIENTS
from probes.faults.table.nodes import NODES
from probes.faults.table.operations import OPERATIONS
from probes.faults.table.processes import CONTROLS, PROCESSES
from probes.faults.table.sharing import SHARING
from probes.faults.table.training import TRAINING
from probes.faults.table.transfers import TRANSFERS

FAULTS: Final[tuple[Fault, ...]] = (
    *OPERATIONS,
    *CALLS,
    *TRAINING,
    *GRADIENTS,
    *SHARING,
    *TRANSFERS,
    *PROCESSES,
    *NODES,
)

__all__ = ["BY_NAME", "CONTROLS", "FAULTS"]

BY_NAME: Final[dict[str, Fault]] = {fault.name: fault for fault in (*FAULTS, *CONTROLS)}
