"""A missing type or operation is accepted only where the back-end documents it."""

from collections.abc import Iterator

import pytest
import torch

from probes.kit import capabilities
from probes.kit.capabilities import back_end, documented_absence, floats, has_dtype, widest_float

EX = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx(handle, CUDA_R_16BF)`"
LT = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul(ltHandle)`"
NOT_BF16 = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasDgemm(handle)`"
NOT_DETERMINISTIC = (
    "kthvalue CUDA does not have a deterministic implementation, but you set "
    "'torch.use_deterministic_algorithms(True)'."
)
NO_FLOAT64 = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
    "Please use float32 instead."
)
NO_BFLOAT16 = (
    "Trying to convert BFloat16 to the MPS backend but it does not have support for that dtype."
)
NO_FP64_ON_ARC = "Required aspect fp64 is not supported on the device"


@pytest.fixture(autouse=True)
def clear_caches() -> Iterator[None]:
    """Clear cached results before and after each test."""

    def clear() -> None:
        for function in (capabilities.capability, has_dtype, floats):
            function.cache_clear()

    clear()
    yield
    clear()


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA devices of one capability."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: request.param)


@pytest.mark.parametrize("gpu", [(6, 0), (7, 0)], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_bfloat16_products_are_not_promised_below_8_0() -> None:
    """The error names bfloat16, or the caller passes it; for another type it is a failure."""
    assert "compute capability" in documented_absence(RuntimeError(EX), "cuda:0")
    assert "compute capability" in documented_absence(RuntimeError(LT), "cuda:0", torch.bfloat16)
    assert not documented_absence(RuntimeError(LT), "cuda:0")
    assert not documented_absence(RuntimeError(LT), "cuda:0", torch.float16)
    assert not documented_absence(RuntimeError(NOT_BF16), "cuda:0")


@pytest.mark.parametrize("gpu", [(8, 0), (9, 0), (12, 0), None], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_a_refusal_on_a_current_gpu_is_a_failure() -> None:
    """Also on a GPU with unknown capability."""
    assert not documented_absence(RuntimeError(EX), "cuda:0")
    assert not documented_absence(RuntimeError(LT), "cuda:0", torch.bfloat16)


@pytest.mark.parametrize("gpu", [(6, 0)], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_other_errors_of_a_library_are_failures() -> None:
    """Old hardware explains a missing type, not a failed execution."""
    failed = "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(CUDA_R_16BF)`"

    assert not documented_absence(RuntimeError(failed), "cuda:0", torch.bfloat16)


@pytest.mark.parametrize(
    ("device", "error", "absent"),
    [
        ("cpu", RuntimeError("\"mm\" not implemented for 'Half'"), True),
        ("cpu", RuntimeError("\"mm\" not implemented for 'BFloat16'"), True),
        ("cpu", RuntimeError("\"mm\" not implemented for 'Float'"), False),
        ("cpu", NotImplementedError("Could not run 'aten::mm' with arguments"), False),
        ("cpu", RuntimeError("mkldnn is not supported"), False),
        ("cuda:0", RuntimeError("\"mm\" not implemented for 'Half'"), False),
        ("cuda:0", NotImplementedError("Could not run 'aten::mm' on the 'CUDA' backend"), False),
        ("cuda:0", RuntimeError("Expected a 'cpu' device type for generator but found"), False),
        ("cuda:0", RuntimeError(NOT_DETERMINISTIC), True),
        ("cpu", RuntimeError(NOT_DETERMINISTIC), True),
        ("mps", NotImplementedError("The operator 'aten::linalg_lstsq' is not"), True),
        ("mps", TypeError(NO_FLOAT64), True),
        ("mps", TypeError(NO_BFLOAT16), True),
        ("mps", TypeError("BFloat16 is not supported on MPS"), True),
        ("mps", TypeError("MPS BFloat16 is only supported on MacOS 14 or newer"), True),
        ("mps", RuntimeError("MPS backend out of memory"), False),
        ("xpu:0", RuntimeError(NO_FP64_ON_ARC), True),
        ("xpu:0", RuntimeError("Expected a 'cpu' device type for generator but found x"), True),
        ("xpu:0", RuntimeError("UR backend failed. UR error: 40 (OUT_OF_RESOURCES)"), False),
        ("xpu:0", RuntimeError("CUDNN_STATUS_NOT_SUPPORTED: the mode is not supported"), False),
    ],
)
def test_absences_and_failures(device: str, error: Exception, *, absent: bool) -> None:
    """Known texts count as absence only on back-ends that may be incomplete."""
    assert bool(documented_absence(error, device)) is absent


def test_a_reason_has_the_back_end_and_its_text() -> None:
    """One line, however long the text is."""
    why = documented_absence(NotImplementedError("no such operator\n" + "x" * 999), "mps")

    assert why == "the mps back-end: no such operator"


def test_rocm_is_a_back_end_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch calls its devices cuda, but they have no capability of NVIDIA's."""
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")

    assert (back_end("cuda:1"), back_end("cpu"), back_end("xpu")) == ("hip", "cpu", "xpu")
    assert capabilities.capability("cuda:1") is None
    assert not documented_absence(
        RuntimeError("HIPBLAS_STATUS_NOT_SUPPORTED CUDA_R_16BF"), "cuda:1"
    )


@pytest.mark.parametrize(
    ("limit", "device", "absent"),
    [
        ("avx2", "cpu", True),
        ("default", "cpu", True),
        ("", "cpu", False),
        ("avx2", "cuda:0", False),
    ],
)
def test_a_cpu_that_a_variable_limits(
    limit: str, device: str, *, absent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products of bfloat16 then raise; without the variable the same error is a failure."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", limit)
    error = RuntimeError("pack_vnni2 is only supported when avx512 is supported")

    assert bool(documented_absence(error, device)) == absent


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_cpu_and_cuda_have_every_type_without_a_try(device: str) -> None:
    """A try on a broken device would turn its failure into an absence."""
    assert floats(device) == (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    assert widest_float(device) == torch.float64


def test_a_type_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The type is tried once; the result is cached."""
    tried: list[torch.dtype] = []

    def to(self: torch.Tensor, _device: str) -> torch.Tensor:
        tried.append(self.dtype)
        if self.dtype in {torch.float64, torch.bfloat16}:
            raise TypeError(NO_FLOAT64 if self.dtype == torch.float64 else NO_BFLOAT16)
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)

    assert floats("mps") == (torch.float32, torch.float16)
    assert widest_float("mps") == torch.float32
    assert not has_dtype("mps", torch.bfloat16)
    assert tried == [torch.float64, torch.float16, torch.bfloat16]


def test_a_type_that_the_device_cannot_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intel's Arc stores float64 but cannot compute with it."""

    def add(_self: torch.Tensor, _other: object) -> torch.Tensor:
        raise RuntimeError(NO_FP64_ON_ARC)

    monkeypatch.setattr(torch.Tensor, "to", lambda self, _device: self)
    monkeypatch.setattr(torch.Tensor, "add_", add)

    assert widest_float("xpu:0") == torch.float32


def test_a_failure_is_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The type counts as present, so that the checks report the failure."""

    def to(_self: torch.Tensor, _device: str) -> torch.Tensor:
        raise RuntimeError("UR error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")

    monkeypatch.setattr(torch.Tensor, "to", to)

    assert has_dtype("xpu:0", torch.float64)


def test_out_of_memory_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes may use the memory."""

    def to(_self: torch.Tensor, _device: str) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("XPU out of memory")

    monkeypatch.setattr(torch.Tensor, "to", to)

    with pytest.raises(torch.cuda.OutOfMemoryError):
        has_dtype("xpu:0", torch.float64)
