"""What a device lacks is believed where it is documented, and nowhere else."""

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
def asked_anew() -> Iterator[None]:
    """No answer of another test, and none for the next."""

    def forget() -> None:
        for question in (capabilities.capability, has_dtype, floats):
            question.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA devices of one capability."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: request.param)


@pytest.mark.parametrize("gpu", [(6, 0), (7, 0)], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_bfloat16_products_are_not_promised_below_8_0() -> None:
    """The library's refusal names the type, or the caller knows it; another type is a failure."""
    assert "compute capability" in documented_absence(RuntimeError(EX), "cuda:0")
    assert "compute capability" in documented_absence(RuntimeError(LT), "cuda:0", torch.bfloat16)
    assert not documented_absence(RuntimeError(LT), "cuda:0")
    assert not documented_absence(RuntimeError(LT), "cuda:0", torch.float16)
    assert not documented_absence(RuntimeError(NOT_BF16), "cuda:0")


@pytest.mark.parametrize("gpu", [(8, 0), (9, 0), (12, 0), None], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_a_library_that_refuses_a_current_gpu_failed() -> None:
    """So it did on a GPU whose capability cannot be told."""
    assert not documented_absence(RuntimeError(EX), "cuda:0")
    assert not documented_absence(RuntimeError(LT), "cuda:0", torch.bfloat16)


@pytest.mark.parametrize("gpu", [(6, 0)], indirect=True)
@pytest.mark.usefixtures("gpu")
def test_other_errors_of_a_library_are_failures() -> None:
    """Old hardware explains what is not supported, not what broke."""
    broke = "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(CUDA_R_16BF)`"

    assert not documented_absence(RuntimeError(broke), "cuda:0", torch.bfloat16)


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
def test_what_is_absent_and_what_is_broken(device: str, error: Exception, *, absent: bool) -> None:
    """Absence has its words, and counts only where a back-end may be incomplete."""
    assert bool(documented_absence(error, device)) is absent


def test_a_reason_names_the_back_end_and_what_it_said() -> None:
    """In one line, however long the text was."""
    why = documented_absence(NotImplementedError("no such operator\n" + "x" * 999), "mps")

    assert why == "the mps back-end: no such operator"


def test_rocm_is_a_back_end_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though torch calls its devices cuda; no capability of NVIDIA's is asked there."""
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")

    assert (back_end("cuda:1"), back_end("cpu"), back_end("xpu")) == ("hip", "cpu", "xpu")
    assert capabilities.capability("cuda:1") is None
    assert not documented_absence(
        RuntimeError("HIPBLAS_STATUS_NOT_SUPPORTED CUDA_R_16BF"), "cuda:1"
    )


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_cpu_and_cuda_have_every_type_unasked(device: str) -> None:
    """Asking a sick device would make its failure an absence."""
    assert floats(device) == (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    assert widest_float(device) == torch.float64


def test_a_type_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal says so once; the device is not asked again."""
    asked: list[torch.dtype] = []

    def to(self: torch.Tensor, _device: str) -> torch.Tensor:
        asked.append(self.dtype)
        if self.dtype in {torch.float64, torch.bfloat16}:
            raise TypeError(NO_FLOAT64 if self.dtype == torch.float64 else NO_BFLOAT16)
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)

    assert floats("mps") == (torch.float32, torch.float16)
    assert widest_float("mps") == torch.float32
    assert not has_dtype("mps", torch.bfloat16)
    assert asked == [torch.float64, torch.float16, torch.bfloat16]


def test_a_type_that_the_device_cannot_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intel's Arc stores float64 and has no arithmetic for it."""

    def add(_self: torch.Tensor, _other: object) -> torch.Tensor:
        raise RuntimeError(NO_FP64_ON_ARC)

    monkeypatch.setattr(torch.Tensor, "to", lambda self, _device: self)
    monkeypatch.setattr(torch.Tensor, "add_", add)

    assert widest_float("xpu:0") == torch.float32


def test_a_failure_is_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The type stays on the list, so that the checks meet the failure themselves."""

    def to(_self: torch.Tensor, _device: str) -> torch.Tensor:
        raise RuntimeError("UR error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")

    monkeypatch.setattr(torch.Tensor, "to", to)

    assert has_dtype("xpu:0", torch.float64)


def test_out_of_memory_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It escapes: others may hold the memory."""

    def to(_self: torch.Tensor, _device: str) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("XPU out of memory")

    monkeypatch.setattr(torch.Tensor, "to", to)

    with pytest.raises(torch.cuda.OutOfMemoryError):
        has_dtype("xpu:0", torch.float64)
