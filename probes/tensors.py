"""What probes need of torch whatever its version or back-end: devices, bits, poison, refusals."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

#: Every byte of a poisoned tensor: a NaN or a large odd value in no test's reference.
POISON_BYTE = 0xAB

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.uint64}
_SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


def accelerator_type() -> str | None:
    """The device type of this build's accelerator (`cuda`, `xpu`, ...), or None.

    `torch.accelerator` exists from torch 2.6; before it, CUDA, XPU, MPS and a renamed
    PrivateUse1 back-end are asked in turn.
    """
    if hasattr(torch, "accelerator"):
        current = torch.accelerator.current_accelerator()
        return current.type if current is not None else None
    for name in ("cuda", "xpu", "mps", torch._C._get_privateuse1_backend_name()):
        module = torch.mps if name == "mps" else getattr(torch, name, None)
        available = getattr(torch.backends.mps if name == "mps" else module, "is_available", None)
        if available is not None and available():
            return name
    return None


def device_count(kind: str) -> int:
    """How many devices of that type torch sees."""
    module = getattr(torch, kind, None)
    count = getattr(module, "device_count", None)
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
    host = tensor.detach().cpu().contiguous()
    if host.dtype == torch.complex128:
        host = torch.view_as_real(host)
    raw = host.view(_SIGNED[host.element_size()]).numpy()
    return raw.view(_UNSIGNED[host.element_size()])


def refusal(call: Callable[[], object]) -> str:
    """What a call that must be refused raised, as `Type: text`; empty when it went through."""
    try:
        call()
    except (RuntimeError, TypeError, ValueError, BufferError, IndexError, AssertionError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""
