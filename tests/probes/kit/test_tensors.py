"""Shared helpers for tensors, on this host and for simulated back-ends."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from probes.kit import tensors

DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0), (2, 3, 4)])
def test_every_byte_of_a_poisoned_tensor_is_poison(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """Shape and dtype as asked for, and 0xAB in every byte."""
    tensor = tensors.poisoned(shape, dtype, "cpu")

    assert (tuple(tensor.shape), tensor.dtype, tensor.device.type) == (shape, dtype, "cpu")
    assert set(tensors.bits(tensor).tobytes()) <= {tensors.POISON_BYTE}
    assert tensor.is_contiguous()


def test_poison_is_no_expected_value() -> None:
    """A kernel that writes nothing leaves a value that no reference has."""
    assert tensors.poisoned((3,), torch.float32, "cpu").tolist() == [-1.2197928214371934e-12] * 3
    assert tensors.poisoned((1,), torch.int64, "cpu").item() == int.from_bytes(
        b"\xab" * 8, "little", signed=True
    )


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.tensor([1.0, -0.0]), np.array([0x3F800000, 0x80000000], np.uint32)),
        (torch.tensor([1.0], dtype=torch.bfloat16), np.array([0x3F80], np.uint16)),
        (torch.tensor([1.0], dtype=torch.float16), np.array([0x3C00], np.uint16)),
        (torch.tensor([-1], dtype=torch.int64), np.array([2**64 - 1], np.uint64)),
        (torch.tensor([-1], dtype=torch.int8), np.array([255], np.uint8)),
        (torch.tensor([True, False]), np.array([1, 0], np.uint8)),
        (torch.tensor(1.0, dtype=torch.float64), np.array(0x3FF0 << 48, np.uint64)),
        (
            torch.tensor([1 + 0j], dtype=torch.complex128),
            np.array([[0x3FF0 << 48, 0]], np.uint64),
        ),
        (torch.tensor([0 + 1j]), np.array([0x3F800000 << 32], np.uint64)),
        (torch.empty(0, 3), np.empty((0, 3), np.uint32)),
    ],
    ids=lambda value: str(value.dtype),
)
def test_bits_of_known_numbers(tensor: torch.Tensor, expected: np.ndarray) -> None:
    """By IEEE 754, in the size of the element."""
    words = tensors.bits(tensor)

    assert (words.dtype, words.shape) == (expected.dtype, expected.shape)
    assert words.tolist() == expected.tolist()


def test_bits_of_views_are_resolved() -> None:
    """Strides, gradients, conjugate and negative views are resolved first."""
    z = torch.tensor([1 + 2j])
    grid = torch.arange(6, dtype=torch.int32).reshape(2, 3)

    assert tensors.bits(grid.t()).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors.bits(z.conj()).tolist() == tensors.bits(torch.tensor([1 - 2j])).tolist()
    assert tensors.bits(z.conj().imag).tolist() == tensors.bits(torch.tensor([-2.0])).tolist()
    assert tensors.bits(torch.ones(1, requires_grad=True)).tolist() == [0x3F800000]


def test_bits_differ_where_values_are_equal() -> None:
    """Two NaN payloads, and the two zeros."""
    payloads = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)

    assert tensors.bits(payloads).tolist() == [0x7FC00000, 0x7FC00001]


def _raise(error: Exception) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("no\nmore lines"), "RuntimeError: no"),
        (NotImplementedError("later"), "NotImplementedError: later"),
        (TypeError(""), "TypeError: "),
        (ValueError("bad"), "ValueError: bad"),
        (BufferError("held"), "BufferError: held"),
        (IndexError("far"), "IndexError: far"),
        (KeyError("key"), "KeyError: 'key'"),
        (AssertionError("not compiled"), "AssertionError: not compiled"),
        (AttributeError("gone"), "AttributeError: gone"),
        (OverflowError("big"), "OverflowError: big"),
    ],
)
def test_refusal_names_type_and_first_line(error: Exception, text: str) -> None:
    """For the exceptions that torch and NumPy raise."""
    assert tensors.refusal(_raise(error)) == text


def test_refusal_without_an_error_is_empty() -> None:
    """For any returned value."""
    assert tensors.refusal(lambda: "RuntimeError: not raised") == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk"), MemoryError()])
def test_refusal_does_not_catch_other_exceptions(error: BaseException) -> None:
    """An interrupt or a full disk says nothing about torch."""
    with pytest.raises(type(error)):
        tensors.refusal(_raise(error))  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="came with torch 2.6")
def test_accelerator_type_is_torchs_own_answer() -> None:
    """The same as torch.accelerator where it exists; never a CPU."""
    try:
        known = torch.accelerator.current_accelerator()
    except RuntimeError as error:
        pytest.skip(f"torch 2.6: {error}")

    assert tensors.accelerator_type() == (known.type if known is not None else None)
    assert tensors.accelerator_type() != "cpu"


def _no_device() -> None:
    raise RuntimeError("Cannot access accelerator device when none is available.")


#: torch before 2.6, and torch 2.6 itself on a machine without a device.
OLD_ANSWERS = {"no interface": None, "2.6": SimpleNamespace(current_accelerator=_no_device)}


@pytest.mark.parametrize("interface", OLD_ANSWERS.values(), ids=OLD_ANSWERS)
@pytest.mark.parametrize(
    ("built", "kind"),
    [({}, None), ({"cuda"}, "cuda"), ({"xpu"}, "xpu"), ({"mps"}, "mps"), ({"cuda", "xpu"}, "cuda")],
)
def test_accelerator_type_up_to_torch_2_6(
    monkeypatch: pytest.MonkeyPatch, interface: object, built: set[str], kind: str | None
) -> None:
    """Without torch.accelerator the build decides, also without a driver."""
    monkeypatch.delattr(torch, "accelerator", raising=False)
    if interface is not None:
        monkeypatch.setattr(torch, "accelerator", interface, raising=False)
    for name in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(torch._C, f"_has_{name}", name in built, raising=False)

    assert tensors.accelerator_type() == kind


def test_accelerator_type_of_a_registered_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An out-of-tree back-end goes before those of the build, as in torch.accelerator."""
    monkeypatch.delattr(torch, "accelerator", raising=False)
    monkeypatch.setattr(torch._C, "_has_cuda", True)
    monkeypatch.setattr(torch._C, "_get_privateuse1_backend_name", lambda: "npu")
    monkeypatch.setattr(torch, "npu", SimpleNamespace(), raising=False)

    assert tensors.accelerator_type() == "npu"


def test_device_count_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's count; 0 for an unknown back-end."""
    monkeypatch.setattr(torch, "npu", SimpleNamespace(device_count=lambda: 3), raising=False)

    assert tensors.device_count("npu") == 3
    assert tensors.device_count("cuda") == torch.cuda.device_count()
    assert tensors.device_count("no_such_back_end") == 0


@pytest.mark.parametrize("available", [True, False])
def test_device_count_of_mps_without_its_own(
    monkeypatch: pytest.MonkeyPatch, *, available: bool
) -> None:
    """One device where it works: older versions do not count."""
    monkeypatch.setattr(torch, "mps", SimpleNamespace())
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)

    assert tensors.device_count("mps") == int(available)


def test_synchronize_asks_the_devices_own_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing for the CPU, no argument for mps, the device for others; errors are raised."""
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: asked.append("mps"))
    for device in ("cpu", "cuda:1", "mps"):
        tensors.synchronize(device)

    assert asked == [torch.device("cuda:1"), "mps"]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: _raise(RuntimeError("sticky"))())
    with pytest.raises(RuntimeError, match="sticky"):
        tensors.synchronize("cuda:0")
