"""The observation of a device, and the findings about it."""

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
from probes.torch_version.observation import Observation
from probes.torch_version.spec import Limits

__all__ = ["Limits", "Observation", "judge", "observe"]


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: B008 - frozen
    """Yield the findings: the installation itself, then hardware, driver, libraries and NumPy."""
    yield installed.imports(observation)
    yield installed.metadata(observation)
    yield single.one_copy(observation.copies)
    yield build.compiled_version(observation)
    yield installed.requirements(observation)
    yield build.version(observation, limits)
    yield build.build_kind(observation, limits)
    yield build.local_tag(observation)
    yield driver.driver_cuda(observation)
    yield driver.driver_files(observation)
    yield driver.architectures(observation)
    yield libraries.libcuda(observation, limits)
    yield libraries.cudnn(observation)
    yield libraries.cudnn_libraries(observation)
    yield libraries.nccl(observation)
    yield libraries.loaded_once(observation)
    yield libraries.foreign_libraries(observation)
    yield changed_defaults.defaults(observation)
    yield runtimes.openmp(observation.runtimes, observation.variables)
    yield runtimes.blas(observation.runtimes)
    yield numpy_abi.numpy_to_torch(observation)
    yield numpy_abi.torch_to_numpy(observation)
    yield numpy_abi.numpy_scalars(observation)
