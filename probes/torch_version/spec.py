"""The probe's cost, its schedule and the promise of each check, without importing torch."""

from typing import Final, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import NonNegativeInt, field_validator

from probes.contract import BITS, Frozen, ProbeSpec


class Limits(Frozen):
    """What is expected of this image."""

    #: Versions of torch that are right, a PEP 440 specifier set; None accepts every supported one.
    torch: str | None = None
    #: 0 means that no GPU is to be used here, so that a CPU build is right on a GPU node.
    gpus: NonNegativeInt | Literal["auto"] | None = "auto"
    #: Whether libcuda may come from a CUDA forward-compatibility package.
    forward_compat: bool = False

    @field_validator("torch")
    @classmethod
    def _specifier(cls, value: str | None) -> str | None:
        try:
            SpecifierSet(value or "")
        except InvalidSpecifier as error:
            raise ValueError(f"{error}; write a PEP 440 specifier such as '>=2.6,<3'") from error
        return value


SPEC: Final = ProbeSpec(
    name="torch_version",
    profile="quick",
    needs="host",
    timeout_s=60,
    interval_s=300,
    memory_bytes=0,
    limits=Limits,
    checks={
        "imports": "torch and NumPy are whole packages: the compiled core beside the Python files",
        "metadata": "the installed metadata of torch and NumPy say the version that is imported",
        "one_copy": "no second torch or NumPy stands where another start of Python would take it",
        "compiled_version": "torch's Python files and its compiled library are of one build",
        "requirements": "what torch's metadata requires is installed, in the versions it names",
        "version": "torch's version is one of those expected",
        "build_kind": "the build of torch has a back-end for a GPU of this node",
        "local_tag": "the version's tag (+cpu, +cu130, +rocm6.4, +xpu) names the build that it is",
        "driver_cuda": "the NVIDIA driver knows the CUDA version that torch was built for",
        "driver_files": "kernel module, libcuda and NVML are of one driver version",
        "architectures": "the build has code for the architecture of each GPU",
        "libcuda": "libcuda is the driver's own, no stub and no unexpected compat library",
        "cudnn": "cuDNN loads, in a version that torch accepts",
        "cudnn_libraries": "all mapped libraries of cuDNN are of one installation",
        "nccl": "the NCCL that is loaded is not older than the one torch was built with",
        "loaded_once": "no GPU library, and no C++ library, is mapped twice",
        "foreign_libraries": "no system library stands in for one that torch's wheels brought",
        "defaults": "torch's defaults (dtype, device, algorithms, no autocast) are its own",
        "one_openmp": "one OpenMP runtime is mapped, and its alarm for a second one is on",
        "one_blas": "no BLAS library is mapped twice",
        "numpy_to_torch": "torch reads NumPy arrays of every dtype right, without a warning",
        "torch_to_numpy": "NumPy reads tensors of every dtype right, without a warning",
        "numpy_scalars": "torch takes NumPy scalars for numbers: as data, index and size",
    },
    about_node=True,
    certain={"version": (), "numpy_to_torch": BITS, "torch_to_numpy": BITS},
)
