"""All faults: those of each probe, and those of processes."""

from typing import Final

from probes.amp.faults import FAULTS as AMP
from probes.attention.faults import FAULTS as ATTENTION
from probes.autograd.faults import FAULTS as AUTOGRAD
from probes.companions.faults import FAULTS as COMPANIONS
from probes.compiled.faults import FAULTS as COMPILED
from probes.container.faults import FAULTS as CONTAINER
from probes.convolutions.faults import FAULTS as CONVOLUTIONS
from probes.cuda_available.faults import FAULTS as CUDA_AVAILABLE
from probes.dataloader.faults import FAULTS as DATALOADER
from probes.device_transfer.faults import FAULTS as DEVICE_TRANSFER
from probes.dtypes.faults import FAULTS as DTYPES
from probes.faults.fault import Fault
from probes.faults.processes import CONTROLS, PROCESSES
from probes.float_mode.faults import FAULTS as FLOAT_MODE
from probes.gradcheck.faults import FAULTS as GRADCHECK
from probes.hot_products.faults import FAULTS as HOT_PRODUCTS
from probes.large_tensors.faults import FAULTS as LARGE_TENSORS
from probes.layers.faults import FAULTS as LAYERS
from probes.linalg.faults import FAULTS as LINALG
from probes.losses.faults import FAULTS as LOSSES
from probes.matmul.faults import FAULTS as MATMUL
from probes.memory_full.faults import FAULTS as MEMORY_FULL
from probes.memory_pattern.faults import FAULTS as MEMORY_PATTERN
from probes.numpy_sharing.faults import FAULTS as NUMPY_SHARING
from probes.optimizer.faults import FAULTS as OPTIMIZER
from probes.special_functions.faults import FAULTS as SPECIAL_FUNCTIONS
from probes.strided_operands.faults import FAULTS as STRIDED_OPERANDS
from probes.telemetry.faults import FAULTS as TELEMETRY
from probes.tensor_cores.faults import FAULTS as TENSOR_CORES
from probes.tensor_ops.faults import FAULTS as TENSOR_OPS
from probes.torch_settings.faults import FAULTS as TORCH_SETTINGS
from probes.torch_version.faults import FAULTS as TORCH_VERSION
from probes.train_eval.faults import FAULTS as TRAIN_EVAL

__all__ = ["BY_NAME", "CONTROLS", "FAULTS"]

FAULTS: Final[tuple[Fault, ...]] = (
    *TENSOR_OPS,
    *TRAIN_EVAL,
    *AUTOGRAD,
    *GRADCHECK,
    *SPECIAL_FUNCTIONS,
    *DTYPES,
    *LINALG,
    *OPTIMIZER,
    *ATTENTION,
    *STRIDED_OPERANDS,
    *DATALOADER,
    *AMP,
    *CONVOLUTIONS,
    *LAYERS,
    *LOSSES,
    *LARGE_TENSORS,
    *COMPILED,
    *MATMUL,
    *MEMORY_PATTERN,
    *MEMORY_FULL,
    *TENSOR_CORES,
    *HOT_PRODUCTS,
    *NUMPY_SHARING,
    *DEVICE_TRANSFER,
    *PROCESSES,
    *CUDA_AVAILABLE,
    *TORCH_VERSION,
    *TELEMETRY,
    *CONTAINER,
    *FLOAT_MODE,
    *TORCH_SETTINGS,
    *COMPANIONS,
)

BY_NAME: Final[dict[str, Fault]] = {fault.name: fault for fault in (*FAULTS, *CONTROLS)}
