"""The faults for the checks of this probe: wrong operations, and calls with another meaning."""

from typing import Final

from probes.faults.fault import Fault
from probes.tensor_ops.call_faults import CALLS
from probes.tensor_ops.operation_faults import OPERATIONS

FAULTS: Final[tuple[Fault, ...]] = (*OPERATIONS, *CALLS)
