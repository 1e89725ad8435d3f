"""What is seen of an installation and of the machine around it."""

from typing import Final

from pydantic import Field

from probes import contract
from probes.contract import Comparison, Frozen
from probes.node import cuda_driver, hardware
from probes.node.copies import Copy
from probes.torch_version import mapped

#: Variables that choose libraries, hide or rename GPUs, or silence a runtime's own alarm.
VARIABLES: Final = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "HSA_OVERRIDE_GFX_VERSION",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "KMP_DUPLICATE_LIB_OK",
)

#: What Slurm puts into a variable that hides GPUs, of a job that asked for none.
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
    folder: str  # that the metadata speaks for


class Need(Frozen):
    """One requirement of torch that applies on this machine; `installed` is None when it is not."""

    name: str
    specifier: str
    installed: str | None = None


class Gpu(Frozen):
    """A GPU that torch would use: the driver's view, else NVML's, else the kernel's."""

    label: str
    capability: tuple[int, int] | None = None  # NVIDIA
    gfx: str | None = None  # AMD


class Build(Frozen):
    """What this torch was made for. The version file is Python, the rest is compiled in."""

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
    copies: tuple[Copy, ...] = ()  # of torch and NumPy, as far as Python searches
    runtimes: tuple[str, ...] = ()  # mapped OpenMP runtimes and BLAS libraries
    ahead: tuple[str, ...] = ()  # libraries in LD_LIBRARY_PATH of which the wheels have their own
    changed_defaults: dict[str, str] = Field(default_factory=dict)  # call -> what it says
    numpy_to_torch: tuple[Comparison, ...] = ()
    torch_to_numpy: tuple[Comparison, ...] = ()
    numpy_scalars: tuple[Comparison, ...] = ()
