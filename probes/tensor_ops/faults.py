"""What must trip each check of this probe: wrong operations, and calls that mean something else."""

from typing import Final

from probes.faults.fault import Fault
from probes.tensor_ops.call_faults import CALLS
from probes.tensor_ops.operation_faults import OPERATIONS

FAULTS: Final[tuple[Fault, ...]] = (*OPERATIONS, *CALLS)
