"""The torch in this image is installed whole, and fits its GPUs, its driver and its NumPy.

Why: most sick nodes are sick images: a resolver took the CPU build, the driver is too old for the
     wheel, the wheel has no code for this GPU, a system cuDNN comes before the wheel's, NumPy 2
     meets a torch of NumPy 1. Each of these is told here by name, before any kernel runs.
Fix: install torch and NumPy from one lock file, for this node's driver and GPUs, in a fresh
     environment; keep system CUDA libraries out of LD_LIBRARY_PATH.
Ref: https://docs.nvidia.com/deploy/cuda-compatibility/
     https://docs.nvidia.com/cuda/cuda-c-programming-guide/#application-compatibility
     https://packaging.python.org/en/latest/specifications/version-specifiers/
     https://numpy.org/doc/stable/dev/depending_on_numpy.html
"""

from collections.abc import Iterator

from probes.contract import Finding
from probes.limits.torch_version import Limits
from probes.torch_version import (
    build,
    changed_defaults,
    driver,
    installed,
    libraries,
    numpy_abi,
    runtimes,
    single,
)
from probes.torch_version.look import observe
from probes.torch_version.seen import Seen

__all__ = ["Limits", "Seen", "judge", "observe"]


def judge(seen: Seen, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Hold the installation against itself, then against hardware, driver, libraries and NumPy."""
    yield installed.imports(seen)
    yield installed.metadata(seen)
    yield single.one_copy(seen.copies)
    yield build.compiled_version(seen)
    yield installed.requirements(seen)
    yield build.version(seen, limits)
    yield build.build_kind(seen, limits)
    yield build.local_tag(seen)
    yield driver.driver_cuda(seen)
    yield driver.driver_files(seen)
    yield driver.architectures(seen)
    yield libraries.libcuda(seen, limits)
    yield libraries.cudnn(seen)
    yield libraries.cudnn_libraries(seen)
    yield libraries.nccl(seen)
    yield libraries.loaded_once(seen)
    yield libraries.foreign_libraries(seen)
    yield changed_defaults.defaults(seen)
    yield runtimes.openmp(seen.runtimes, seen.variables)
    yield runtimes.blas(seen.runtimes)
    yield numpy_abi.numpy_to_torch(seen)
    yield numpy_abi.torch_to_numpy(seen)
    yield numpy_abi.numpy_scalars(seen)
