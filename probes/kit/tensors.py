"""Helpers for any torch version and back-end: devices, bits, poisoned tensors, expected errors."""

import contextlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

#: Every byte of a poisoned tensor: 171, or -1.2e-12 in float32; no reference has this value.
POISON_BYTE = 0xAB

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.uint64}
_SIGNED = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


def accelerator_type() -> str | None:
    """The device type of this build's accelerator (`cuda`, `xpu`, ...), or None.

    torch 2.6 has `torch.accelerator`, which raises there if no device is present. Then, and before
    2.6, the back-ends are tried in torch's own order: a registered PrivateUse1, CUDA (and ROCm),
    XPU, MPS.
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
    """Wait for all work on the device. Raises what torch raises if earlier work failed."""
    kind = torch.device(device).type
    if kind == "cpu":
        return
    module = getattr(torch, kind)
    if kind == "mps":
        module.synchronize()
    else:
        module.synchronize(torch.device(device))


def poisoned(shape: Sequence[int], dtype: torch.dtype, device: str) -> torch.Tensor:
    """A tensor of that shape filled with 0xAB bytes, to detect a kernel that writes nothing."""
    count = math.prod(shape) * dtype.itemsize
    raw = torch.full((count,), POISON_BYTE, dtype=torch.uint8)  # (bytes,), on the host
    return raw.view(dtype).view(tuple(shape)).to(device)


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
    """The error that a call raised, as `Type: text`; empty if it raised none."""
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
