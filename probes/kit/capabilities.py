"""What a device has and what it lacks: asked once, and told apart from a fault by what torch says.

An operation or a type that a back-end does not have is no fault of the device. Absence is believed
only where it is documented: a CPU and a current NVIDIA GPU lack almost nothing, so that the same
text from one of them stays a failure.
"""

import re
from functools import cache
from typing import Final

import torch

_BFLOAT16_SINCE: Final = (8, 0)  # compute capability from which cuBLAS and cuDNN promise bfloat16

#: How torch and its out-of-tree back-ends say that they have no such operation or type.
_ABSENT: Final = re.compile(
    r"not (currently |yet )?implemented|not supported|only supported|unsupported"
    r"|does(n't| not) (currently )?support|does not have support for that dtype",
    re.IGNORECASE,
)
#: How a back-end that draws random numbers on the host refuses a generator of its own.
_NO_GENERATOR: Final = re.compile(
    r"device type for generator but found|generator device but found"
    r"|not supported for torch\.Generator"
)
#: A library's own code: a failure, unless the device's capability explains it.
_LIBRARY_REFUSED: Final = re.compile(r"\b(CU|HIP)(BLAS|DNN|SOLVER|SPARSE)_STATUS_\w+")
_HALF: Final = re.compile(r"not implemented for '(Half|BFloat16)'")
_BFLOAT16: Final = re.compile(r"16BF|bfloat16", re.IGNORECASE)
#: What torch raises where the user asked for determinism that an operation does not have.
_NONDETERMINISTIC: Final = "does not have a deterministic implementation"


def back_end(device: str) -> str:
    """What computes there: `hip` for ROCm's devices, which torch calls `cuda`; else its type."""
    kind = torch.device(device).type
    return "hip" if kind == "cuda" and torch.version.hip is not None else kind


@cache
def capability(device: str) -> tuple[int, int] | None:
    """The compute capability of an NVIDIA GPU; None of everything else, and where none is there.

    None is not "old": what a capability must explain is then not excused.
    """
    if back_end(device) != "cuda" or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return major, minor


@cache
def has_dtype(device: str, dtype: torch.dtype) -> bool:
    """Whether the device stores and adds that type; asked once, by one element.

    The CPU, CUDA and HIP have every type that the probes use, so they are not asked. Elsewhere a
    refusal that is no documented absence counts as having it: the checks then see the failure.

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
        return not lacks(error, device)
    return True


@cache
def floats(device: str) -> tuple[torch.dtype, ...]:
    """The floating types of that device: float32 first, then what it has of the others."""
    others = (torch.float64, torch.float16, torch.bfloat16)
    return (torch.float32, *(dtype for dtype in others if has_dtype(device, dtype)))


def widest_float(device: str) -> torch.dtype:
    """The most precise floating type of that device."""
    return torch.float64 if has_dtype(device, torch.float64) else torch.float32


def lacks(error: Exception, device: str, dtype: torch.dtype | None = None) -> str:
    """Why an exception is an absence that the back-end documents; empty when it is a failure.

    `dtype` is the type of the operands, where the caller knows it: not every text names it.
    """
    text = str(error)
    first = (text.splitlines() or [""])[0][:160]
    if _NONDETERMINISTIC in text:
        return f"not deterministic, as torch.use_deterministic_algorithms asks: {first}"
    kind = back_end(device)
    if kind == "cpu":  # older torch had few operations for half types there
        return f"not for half types on this CPU build: {first}" if _HALF.search(text) else ""
    if kind in {"cuda", "hip"}:
        return _lacks_bfloat16(text, first, capability(device), dtype) if kind == "cuda" else ""
    if _LIBRARY_REFUSED.search(text):
        return ""
    absent = isinstance(error, NotImplementedError) or _ABSENT.search(text)
    return f"the {kind} back-end: {first}" if absent or _NO_GENERATOR.search(text) else ""


def _lacks_bfloat16(
    text: str, first: str, compute: tuple[int, int] | None, dtype: torch.dtype | None
) -> str:
    """Why a library refused bfloat16, where it promises it for later capabilities alone.

    cuBLAS documents its bfloat16 products for capability 8.0 and later; before that some work.
    """
    refused = _LIBRARY_REFUSED.search(text)
    if refused is None or not refused[0].endswith(("_NOT_SUPPORTED", "_ARCH_MISMATCH")):
        return ""
    of_bfloat16 = dtype == torch.bfloat16 or _BFLOAT16.search(text) is not None
    if compute is None or compute >= _BFLOAT16_SINCE or not of_bfloat16:
        return ""
    return f"bfloat16 on compute capability {compute[0]}.{compute[1]}: {first}"
