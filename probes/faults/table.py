"""All faults, as one literal table in a file a kind."""

from typing import Final

from probes.autograd.faults import GRADIENTS
from probes.cuda_available.faults import NODES
from probes.device_transfer.faults import TRANSFERS
from probes.faults.fault import Fault
from probes.faults.processes import CONTROLS, PROCESSES
from probes.numpy_sharing.faults import SHARING
from probes.tensor_ops.faults import FAULTS as TENSOR_OPS
from probes.train_eval.faults import TRAINING

FAULTS: Final[tuple[Fault, ...]] = (
    *TENSOR_OPS,
    *TRAINING,
    *GRADIENTS,
    *SHARING,
    *TRANSFERS,
    *PROCESSES,
    *NODES,
)

__all__ = ["BY_NAME", "CONTROLS", "FAULTS"]

BY_NAME: Final[dict[str, Fault]] = {fault.name: fault for fault in (*FAULTS, *CONTROLS)}
