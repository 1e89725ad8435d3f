"""All faults, as one literal table in a file a kind."""

from typing import Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.table.operations import OPERATIONS
from probes.faults.table.transfers import TRANSFERS

FAULTS: Final[tuple[Fault, ...]] = (*OPERATIONS, *TRANSFERS)
CONTROLS: Final[tuple[Fault, ...]] = ()
BY_NAME: Final[dict[str, Fault]] = {fault.name: fault for fault in (*FAULTS, *CONTROLS)}
