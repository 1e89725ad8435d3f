"""The observation of an installation and of the machine around it."""

from typing import Final

from pydantic import Field

from probes import contract
from probes.contract import Comparison, Frozen
from probes.node import cuda_driver, hardware
from probes.node.copies import Copy
from probes.torch_version import mapped

#: Variables that choose libraries, hide or rename GPUs, or switch off a runtime's own error.
VARIABLES: Final = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "HSA_OVERRIDE_GFX_VERSION",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "KMP_DUPLICATE_LIB_OK",
)

#: The value of CUDA_VISIBLE_DEVICES that Slurm sets in a job that asked for no GPU.
NO_GPU_ASKED: Final = "NoDevFiles"


class Module(Frozen):
    """An imported package: where its Python files and its compiled core were loaded from."""

    version: str
    folder: str | None = None  # None: a namespace, so no package of that name was installed
    compiled: str | None = None  # the file of torch._C, or of NumPy's multiarray


class Distribution(Frozen):
    """One entry of the installed metadata, in the order of sys.path."""

    name: str
    version: str
    folder: str  # in which it is installed


class Need(Frozen):
    """A requirement of torch that applies here; `installed` is its version, None when absent."""

    name: str
    specifier: str
    installed: str | None = None


class Gpu(Frozen):
    """A GPU that torch would use, as the driver, else NVML, else the kernel describes it."""

    label: str
    capability: tuple[int, int] | None = None  # NVIDIA
    gfx: str | None = None  # AMD


class Build(Frozen):
    """What this torch was built for: from torch/version.py and from the compiled library."""

    cuda: str | None = None  # torch.version.cuda, "12.4"
    hip: str | None = None
    rocm: str | None = None  # torch.version.rocm, of newer builds
    xpu: bool = False
    compiled_torch: str | None = None  # "2.13.0", without pre-release and local parts
    compiled_cuda: int | None = None  # 12040 is CUDA 12.4
    compiled_for_gpu: bool = False  # CUDA or ROCm is compiled in
    arch_flags: tuple[str, ...] = ()  # sm_90, compute_90, gfx942


class Observation(contract.Observation):
    """One installation of torch and NumPy, and the machine around it."""

    torch: Module
    numpy: Module
    build: Build
    variables: dict[str, str]
    distributions: tuple[Distribution, ...] = ()
    needs: tuple[Need, ...] = ()
    hardware: hardware.Hardware
    kernel_module: str | None = None  # of NVIDIA's loaded kernel module
    driver: cuda_driver.CudaDriver
    nvml_error: str = ""
    nvml_driver: str | None = None
    gpus: tuple[Gpu, ...] = ()
    cudnn_version: int | None = None
    cudnn_error: str = ""
    nccl_compiled: tuple[int, ...] | None = None
    nccl_loaded: tuple[int, ...] | None = None
    libraries: tuple[mapped.Library, ...] = ()
    copies: tuple[Copy, ...] = ()  # of torch and NumPy on sys.path
    runtimes: tuple[str, ...] = ()  # mapped OpenMP runtimes and BLAS libraries
    ahead: tuple[str, ...] = ()  # libraries in LD_LIBRARY_PATH that the wheels contain too
    changed_defaults: dict[str, str] = Field(default_factory=dict)  # call -> its value
    numpy_to_torch: tuple[Comparison, ...] = ()
    torch_to_numpy: tuple[Comparison, ...] = ()
    numpy_scalars: tuple[Comparison, ...] = ()
