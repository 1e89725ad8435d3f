"""The types and operations that a device has, and whether an error means that it lacks one.

A missing operation or type is not a fault of the device. It is accepted only where the back-end
documents it: a CPU or a current NVIDIA GPU lacks almost nothing, so the same error text from one
of them is a failure.
"""

import os
import re
from functools import cache
from typing import Final

import torch

from probes.legible import legible

_BFLOAT16_SINCE: Final = (8, 0)  # compute capability from which cuBLAS and cuDNN promise bfloat16

#: Error texts of torch and out-of-tree back-ends for a missing operation or type.
_ABSENT: Final = re.compile(
    r"not (currently |yet )?implemented|not supported|only supported|unsupported"
    r"|does(n't| not) (currently )?support|does not have support for that dtype",
    re.IGNORECASE,
)
#: Error texts of back-ends that draw random numbers on the host and have no own generator.
_NO_GENERATOR: Final = re.compile(
    r"device type for generator but found|generator device but found"
    r"|not supported for torch\.Generator"
)
#: Status codes of libraries: a failure, unless the device's compute capability explains it.
_LIBRARY_REFUSED: Final = re.compile(r"\b(CU|HIP)(BLAS|DNN|SOLVER|SPARSE)_STATUS_\w+")
_HALF: Final = re.compile(r"not implemented for '(Half|BFloat16)'")
_MISSING: Final = re.compile(r"not implemented for '(\w+)'")
#: The types of which kernels may be missing, as error texts name them.
_NAMED: Final = {
    torch.float16: "Half",
    torch.bfloat16: "BFloat16",
    torch.uint8: "Byte",
    torch.int8: "Char",
    torch.int16: "Short",
    torch.int32: "Int",
    torch.int64: "Long",
    torch.bool: "Bool",
    torch.complex64: "ComplexFloat",
    torch.complex128: "ComplexDouble",
}
#: Error text of the CPU's bfloat16 products (`pack_vnni2` in ATen/cpu/vec) where the CPU has AVX512
#: and this variable forbids torch to use it.
_WITHOUT_AVX512: Final = "only supported when avx512 is supported"
_CPU_LIMIT: Final = "ATEN_CPU_CAPABILITY"
_BFLOAT16: Final = re.compile(r"16BF|bfloat16", re.IGNORECASE)
#: Error text where the user asked for determinism and the operation has no such version.
_NONDETERMINISTIC: Final = "does not have a deterministic implementation"


def back_end(device: str) -> str:
    """The device's back-end: `hip` for ROCm, which torch calls `cuda`; else torch's device type."""
    kind = torch.device(device).type
    return "hip" if kind == "cuda" and torch.version.hip is not None else kind


@cache
def capability(device: str) -> tuple[int, int] | None:
    """The compute capability of an NVIDIA GPU; None for other devices, or without a usable GPU.

    None does not mean old: an error that only an old capability explains stays a failure.
    """
    if back_end(device) != "cuda" or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return major, minor


@cache
def has_dtype(device: str, dtype: torch.dtype) -> bool:
    """Whether the device can store and add that type; tried once, with one element.

    The CPU, CUDA and HIP have every type that the probes use, so nothing is tried there. On other
    back-ends an undocumented error counts as having the type: the checks then report the failure.

    Raises:
        torch.cuda.OutOfMemoryError: not even one element fits.
    """
    if torch.device(device).type in {"cpu", "cuda"}:
        return True
    try:
        torch.zeros(1, dtype=dtype).to(device).add_(1)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        return not documented_absence(error, device)
    return True


@cache
def floats(device: str) -> tuple[torch.dtype, ...]:
    """The floating types that the device has, float32 first."""
    others = (torch.float64, torch.float16, torch.bfloat16)
    return (torch.float32, *(dtype for dtype in others if has_dtype(device, dtype)))


def widest_float(device: str) -> torch.dtype:
    """The most precise floating type that the device has."""
    return torch.float64 if has_dtype(device, torch.float64) else torch.float32


def has_kernel(operator: str, device: str) -> bool:
    """Whether torch has a kernel of the operator on the device."""
    try:
        key = torch._C._dispatch_key_for_device(torch.device(device).type)
        return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operator}", key))
    except RuntimeError:  # this torch knows no such operator, or no key
        return False


def documented_absence(error: Exception, device: str, dtype: torch.dtype | None = None) -> str:
    """Why an error means a documented absence of the back-end; empty when it is a failure.

    `dtype` is the type of the operands, where the caller knows it: not every error text names it.
    """
    text = str(error)
    first = (text.splitlines() or [""])[0][:160]
    if _NONDETERMINISTIC in text:
        return f"not deterministic, as torch.use_deterministic_algorithms asks: {first}"
    kind = back_end(device)
    limit = legible(os.environ.get(_CPU_LIMIT, ""), 80)
    if kind == "cpu" and limit and _WITHOUT_AVX512 in text:
        return f"not with {_CPU_LIMIT}={limit}: {first}"
    if kind == "cpu":  # older torch has few operations for half types on the CPU
        return f"not for half types on this CPU build: {first}" if _HALF.search(text) else ""
    if kind in {"cuda", "hip"}:
        return _bfloat16_absence(text, first, capability(device), dtype) if kind == "cuda" else ""
    if _LIBRARY_REFUSED.search(text):
        return ""
    absent = isinstance(error, NotImplementedError) or _ABSENT.search(text)
    return f"the {kind} back-end: {first}" if absent or _NO_GENERATOR.search(text) else ""


def missing_kernel(error: Exception, dtype: torch.dtype | None) -> str:
    """What torch says where an operation has no kernel for that type; empty for other errors."""
    first = (str(error).splitlines() or [""])[0][:160]
    missing = _MISSING.search(str(error))
    return first if missing and dtype in _NAMED and _NAMED[dtype] == missing[1] else ""


def _bfloat16_absence(
    text: str, first: str, compute: tuple[int, int] | None, dtype: torch.dtype | None
) -> str:
    """Why a library refused bfloat16 on a GPU older than it supports; empty when it is a failure.

    cuBLAS documents bfloat16 products for capability 8.0 and later; on older GPUs only some work.
    """
    refused = _LIBRARY_REFUSED.search(text)
    if refused is None or not refused[0].endswith(("_NOT_SUPPORTED", "_ARCH_MISMATCH")):
        return ""
    of_bfloat16 = dtype == torch.bfloat16 or _BFLOAT16.search(text) is not None
    if compute is None or compute >= _BFLOAT16_SINCE or not of_bfloat16:
        return ""
    return f"bfloat16 on compute capability {compute[0]}.{compute[1]}: {first}"
