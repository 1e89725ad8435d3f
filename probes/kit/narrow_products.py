"""Products of int8 and float8: which devices have them, and calls that fit every torch version.

`torch._int_mm` and `torch._scaled_mm` are what libraries for quantized models call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from probes.kit.capabilities import back_end, capability, has_kernel
from probes.kit.trial import LeftOut

#: What oneDNN says of types that this CPU has no instructions for.
_ONEDNN_LACKS: Final = "could not create a primitive"
_CUBLAS_LACKS: Final = "CUBLAS_STATUS_NOT_SUPPORTED"
#: Tensor cores for int8, and for float8: from these compute capabilities on.
_INT8_SINCE: Final = (7, 5)
_FLOAT8_SINCE: Final = (8, 9)
_HOPPER: Final = (9, 0)
#: Before this version `_scaled_mm` wanted Hopper.
_FLOAT8_ON_ADA: Final = (2, 3)


@contextmanager
def int8_products(device: str) -> Iterator[None]:
    """Within it products of int8 are tried.

    Raises:
        LeftOut: this device, torch or cuBLAS has none.
    """
    _need_kernel("_int_mm", device)
    _need_capability("int8", _INT8_SINCE, device)
    try:
        yield
    except RuntimeError as error:
        if back_end(device) in {"cuda", "hip"} and _CUBLAS_LACKS in str(error):
            raise LeftOut(f"int8 products: {_first_line(error)}") from error
        raise


@contextmanager
def float8_products(device: str) -> Iterator[None]:
    """Within it products of float8 are tried.

    Raises:
        LeftOut: this device or torch has none.
    """
    _need_kernel("_scaled_mm", device)
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    since = _FLOAT8_SINCE if version >= _FLOAT8_ON_ADA else _HOPPER
    _need_capability("float8", since, device)
    try:
        yield
    except RuntimeError as error:
        # AMD has them on some architectures, in types of its own on others; oneDNN on CPUs with
        # AVX512 and float16 or AMX alone.
        lacks = back_end(device) == "cpu" and _ONEDNN_LACKS in str(error)
        if back_end(device) == "hip" or lacks:
            raise LeftOut(f"float8 products: {_first_line(error)}") from error
        raise


def scaled(
    a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype, scales: tuple[float, float], **more: Any
) -> torch.Tensor:
    """`a @ b` times both scales in the type; float8 operands, the second stored by columns.

    Before torch 2.5 it returned the largest magnitude beside it.
    """
    scale_a, scale_b = (torch.tensor(scale, device=a.device) for scale in scales)
    call: Any = torch._scaled_mm
    found = call(a, b, scale_a=scale_a, scale_b=scale_b, out_dtype=dtype, **more)
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]


def _need_kernel(operator: str, device: str) -> None:
    """Leave out a function that torch does not document where it has no kernel."""
    if back_end(device) == "cpu" and not has_kernel(operator, device):
        raise LeftOut(f"this torch has no {operator} on the CPU")


def _need_capability(name: str, since: tuple[int, int], device: str) -> None:
    compute = capability(device)
    if compute is not None and compute < since:
        need, found = (f"{major}.{minor}" for major, minor in (since, compute))
        raise LeftOut(f"{name} products need compute capability {need}, this is {found}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:160]
