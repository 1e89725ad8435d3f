"""What is observed on a device, and the verdicts on it."""

from collections.abc import Iterator

from probes.contract import Finding
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
from probes.torch_version.spec import Limits

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
