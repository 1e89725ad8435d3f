"""What probes need of torch whatever its version or back-end: devices, bits, poison, refusals."""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

#: Every byte of a poisoned tensor: 171, -1.2e-12 in float32, a value in no test's reference.
POISON_BYTE = 0xAB

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.uint64}
_SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


def accelerator_type() -> str | None:
    """The device type of this build's accelerator (`cuda`, `xpu`, ...), or None.

    `torch.accelerator` exists from torch 2.6, where it raises when no device is there. Before that
    each back-end is asked whether this build has it, in the same order: a registered PrivateUse1,
    then CUDA (and ROCm), XPU, MPS.
    """
    if hasattr(torch, "accelerator"):
        with contextlib.suppress(RuntimeError):
            current = torch.accelerator.current_accelerator()
            return current.type if current is not None else None
    private = torch._C._get_privateuse1_backend_name()
    if hasattr(torch, private):
        return str(private)
    kinds = ("cuda", "xpu", "mps")
    return next((kind for kind in kinds if getattr(torch._C, f"_has_{kind}", False)), None)


def device_count(kind: str) -> int:
    """How many devices of that type torch sees."""
    count = getattr(getattr(torch, kind, None), "device_count", None)
    if count is None and kind == "mps":  # torch.mps.device_count came with torch 2.3
        return int(torch.backends.mps.is_available())
    return int(count()) if count is not None else 0


def synchronize(device: str) -> None:
    """Wait for all work on the device; what failed asynchronously raises here."""
    kind = torch.device(device).type
    if kind == "cpu":
        return
    module = getattr(torch, kind)
    if kind == "mps":
        module.synchronize()
    else:
        module.synchronize(torch.device(device))


def poisoned(shape: Sequence[int], dtype: torch.dtype, device: str) -> torch.Tensor:
    """A tensor of that shape filled with 0xAB bytes, so that a kernel that does nothing shows."""
    itemsize = torch.empty(0, dtype=dtype).element_size()
    count = int(np.prod(shape, dtype=np.int64)) * itemsize
    raw = torch.full((count,), POISON_BYTE, dtype=torch.uint8)  # (bytes,), on the host
    return raw.view(dtype).reshape(tuple(shape)).to(device)


def bits(tensor: torch.Tensor) -> npt.NDArray[np.unsignedinteger]:
    """The tensor's elements as unsigned integers of their size, on the host; same shape.

    A 16-byte element (complex128) becomes two along a new last axis; bool becomes uint8.
    """
    host = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if host.dtype == torch.complex128:
        host = torch.view_as_real(host)
    raw = host.view(_SIGNED[host.element_size()]).numpy()
    return raw.view(_UNSIGNED[host.element_size()])


def refusal(call: Callable[[], object]) -> str:
    """What a call that must be refused raised, as `Type: text`; empty when it went through."""
    try:
        call()
    except (
        RuntimeError,
        TypeError,
        ValueError,
        BufferError,
        LookupError,
        AssertionError,
        AttributeError,
        ArithmeticError,
    ) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""
