"""Kernels of our own: launched through libcuda's interface, here a fake one that runs them."""

import ctypes
from pathlib import Path

import pytest
import torch

from probes.kit import kernels
from probes.kit.kernels import Driver, Unavailable, pointer, u32, u64
from tests.shim import IMAGE, Shim, build

SOURCE = """
extern "C" __global__ void fill(unsigned long long *out, unsigned long long count,
                                unsigned long long value, unsigned step) {
    unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    for (; i < count; i += (unsigned long long)gridDim.x * blockDim.x) out[i] = value + i * step;
}
"""

LARGE = 0xFEDCBA9876543210


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The kernel, behind a fake driver."""
    return build(SOURCE, tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(built: Shim) -> Shim:
    """The same, with nothing refused."""
    built.refuse("", 0)
    built.place_on(0)
    return built


def test_all_arguments_keep_their_bits(shim: Shim) -> None:
    """Pointers and 64-bit numbers arrive whole, on the stream and in the shape that were asked."""
    out = torch.zeros(1000, dtype=torch.int64)
    shim.module(stream=2**40 + 3).launch(
        "fill", blocks=3, threads=32, arguments=[pointer(out), u64(999), u64(LARGE), u32(5)]
    )

    found = [value % 2**64 for value in out.tolist()]
    assert found == [LARGE + 5 * i for i in range(999)] + [0]
    assert shim.last_launch() == [3, 1, 1, 32, 1, 1, 0, 2**40 + 3]


@pytest.mark.parametrize("function", ["cuModuleLoadData", "cuModuleGetFunction"])
@pytest.mark.parametrize("code", [200, 209, 222, 801])
def test_code_that_the_driver_refuses_is_no_fault(shim: Shim, function: str, code: int) -> None:
    """An older driver, or one of another architecture: the caller goes another way."""
    shim.refuse(function, code)

    with pytest.raises(Unavailable, match=f"{function}: CUDA_ERROR_SOMETHING"):
        shim.module().launch("fill", blocks=1, threads=1, arguments=[])


@pytest.mark.parametrize("function", ["cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel"])
def test_a_sick_device_is_one(shim: Shim, function: str) -> None:
    """The error of earlier work surfaces in the next call, in words that torch uses too."""
    shim.refuse(function, 700)

    text = r"CUDA error: an illegal memory access .*ILLEGAL_ADDRESS of " + function
    with pytest.raises(RuntimeError, match=text):
        shim.module().launch("fill", blocks=1, threads=1, arguments=[])


def test_a_launch_is_never_called_unavailable(shim: Shim) -> None:
    """What was loaded must run: a refusal then is an error."""
    shim.refuse("cuLaunchKernel", 209)

    with pytest.raises(RuntimeError, match="CUDA_ERROR_SOMETHING of cuLaunchKernel"):
        shim.module().launch("fill", blocks=1, threads=1, arguments=[])


def test_another_device_is_the_current_one(shim: Shim) -> None:
    """A launch is made where the code was loaded, and the thread has its own context afterwards."""
    shim.place_on(1)
    module = shim.module()
    shim.place_on(0)
    out = torch.zeros(8, dtype=torch.int64)
    module.launch("fill", blocks=1, threads=1, arguments=[pointer(out), u64(8), u64(3), u32(0)])

    assert out.tolist() == [3] * 8
    assert Driver(str(shim.path)).ordinal() == 0


def test_the_context_is_another_devices(shim: Shim) -> None:
    """Choosing a device need not have changed the context: the first operation there does."""
    place, driver = shim.module().place, Driver(str(shim.path))
    with pytest.raises(Unavailable, match="context is not on device 1"):
        kernels.loaded(driver, IMAGE, place, ordinal=1)
    loaded = kernels.loaded(driver, IMAGE, place, start=lambda: shim.place_on(1), ordinal=1)
    shim.place_on(0)
    loaded.launch("fill", blocks=1, threads=1, arguments=[*map(u64, (0, 0, 0)), u32(0)])


@pytest.mark.parametrize("function", ["cuCtxPushCurrent_v2", "cuLaunchKernel"])
def test_the_context_is_restored_after_an_error(shim: Shim, function: str) -> None:
    """Whatever fails."""
    shim.place_on(1)
    module = shim.module()
    shim.place_on(0)
    shim.refuse(function, 719)
    with pytest.raises(RuntimeError, match=function):
        module.launch("fill", blocks=1, threads=1, arguments=[])

    assert Driver(str(shim.path)).ordinal() == 0


def test_an_error_without_a_name(shim: Shim) -> None:
    """A driver that does not know its own code."""
    shim.refuse("cuLaunchKernel", 12345)

    with pytest.raises(RuntimeError, match="error 12345"):
        shim.module().launch("fill", blocks=1, threads=1, arguments=[])


def test_a_kernel_that_is_not_there(shim: Shim) -> None:
    """The driver does not find it in the code."""
    with pytest.raises(Unavailable, match="cuModuleGetFunction"):
        shim.module().launch("other", blocks=1, threads=1, arguments=[])


def test_code_that_is_none(shim: Shim) -> None:
    """What is no cubin is refused, and without a context nothing is loaded."""
    place = shim.module().place
    with pytest.raises(Unavailable, match="cuModuleLoadData"):
        kernels.loaded(Driver(str(shim.path)), b"text", place)
    shim.place_on(-1)
    with pytest.raises(Unavailable, match="no CUDA context"):
        kernels.loaded(Driver(str(shim.path)), IMAGE, place)


def test_without_a_driver(tmp_path: Path) -> None:
    """No libcuda, or one without these functions."""
    with pytest.raises(Unavailable, match=r"libcuda: .*cannot open shared object"):
        Driver(str(tmp_path / "libcuda.so.1"))
    with pytest.raises(Unavailable, match=r"libcuda: .*cuCtxGetCurrent"):
        Driver(ctypes.CDLL(None)._name or "libc.so.6")


def test_the_cpu_has_none() -> None:
    """Another back-end is told so."""
    with pytest.raises(Unavailable, match="the cpu back-end has no NVRTC"):
        kernels.load(SOURCE, "cpu")
