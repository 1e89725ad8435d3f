"""The probes' specifications, collected. Importable without torch."""

from typing import Final

from probes.amp.spec import SPEC as AMP
from probes.attention.spec import SPEC as ATTENTION
from probes.autograd.spec import SPEC as AUTOGRAD
from probes.companions.spec import SPEC as COMPANIONS
from probes.compiled.spec import SPEC as COMPILED
from probes.container.spec import SPEC as CONTAINER
from probes.contract import ProbeSpec
from probes.convolutions.spec import SPEC as CONVOLUTIONS
from probes.cuda_available.spec import SPEC as CUDA_AVAILABLE
from probes.dataloader.spec import SPEC as DATALOADER
from probes.device_transfer.spec import SPEC as DEVICE_TRANSFER
from probes.dtypes.spec import SPEC as DTYPES
from probes.float_mode.spec import SPEC as FLOAT_MODE
from probes.gradcheck.spec import SPEC as GRADCHECK
from probes.hot_products.spec import SPEC as HOT_PRODUCTS
from probes.large_tensors.spec import SPEC as LARGE_TENSORS
from probes.layers.spec import SPEC as LAYERS
from probes.linalg.spec import SPEC as LINALG
from probes.losses.spec import SPEC as LOSSES
from probes.matmul.spec import SPEC as MATMUL
from probes.memory_full.spec import SPEC as MEMORY_FULL
from probes.memory_pattern.spec import SPEC as MEMORY_PATTERN
from probes.numpy_sharing.spec import SPEC as NUMPY_SHARING
from probes.optimizer.spec import SPEC as OPTIMIZER
from probes.special_functions.spec import SPEC as SPECIAL_FUNCTIONS
from probes.strided_operands.spec import SPEC as STRIDED_OPERANDS
from probes.telemetry.spec import SPEC as TELEMETRY
from probes.tensor_cores.spec import SPEC as TENSOR_CORES
from probes.tensor_ops.spec import SPEC as TENSOR_OPS
from probes.torch_settings.spec import SPEC as TORCH_SETTINGS
from probes.torch_version.spec import SPEC as TORCH_VERSION
from probes.train_eval.spec import SPEC as TRAIN_EVAL

__all__ = [
    "AMP",
    "ATTENTION",
    "AUTOGRAD",
    "BY_NAME",
    "CATALOG",
    "COMPANIONS",
    "COMPILED",
    "CONTAINER",
    "CONVOLUTIONS",
    "CUDA_AVAILABLE",
    "DATALOADER",
    "DEVICE_TRANSFER",
    "DTYPES",
    "FLOAT_MODE",
    "GRADCHECK",
    "HOT_PRODUCTS",
    "LARGE_TENSORS",
    "LAYERS",
    "LINALG",
    "LOSSES",
    "MATMUL",
    "MEMORY_FULL",
    "MEMORY_PATTERN",
    "NUMPY_SHARING",
    "OPTIMIZER",
    "SPECIAL_FUNCTIONS",
    "STRIDED_OPERANDS",
    "TELEMETRY",
    "TENSOR_CORES",
    "TENSOR_OPS",
    "TORCH_SETTINGS",
    "TORCH_VERSION",
    "TRAIN_EVAL",
]

#: In the order in which one device runs them.
CATALOG: Final[tuple[ProbeSpec, ...]] = (
    TORCH_VERSION,
    CUDA_AVAILABLE,
    TELEMETRY,
    CONTAINER,
    FLOAT_MODE,
    TORCH_SETTINGS,
    COMPANIONS,
    NUMPY_SHARING,
    DEVICE_TRANSFER,
    TENSOR_OPS,
    TRAIN_EVAL,
    AUTOGRAD,
    GRADCHECK,
    SPECIAL_FUNCTIONS,
    DTYPES,
    LINALG,
    OPTIMIZER,
    ATTENTION,
    STRIDED_OPERANDS,
    DATALOADER,
    AMP,
    CONVOLUTIONS,
    LAYERS,
    LOSSES,
    LARGE_TENSORS,
    COMPILED,
    MATMUL,
    MEMORY_PATTERN,
    MEMORY_FULL,
    TENSOR_CORES,
    HOT_PRODUCTS,
)

#: The same, by name.
BY_NAME: Final[dict[str, ProbeSpec]] = {spec.name: spec for spec in CATALOG}
