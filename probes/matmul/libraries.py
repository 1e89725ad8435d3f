"""The libraries that torch can be told to prefer for products: cuBLAS and cuBLASLt, or AMD's.

Ref: https://docs.pytorch.org/docs/stable/backends.html#torch.backends.cuda.preferred_blas_library
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from probes.kit.capabilities import back_end
from probes.kit.trial import LeftOut

_NAMES: Final = ("cublas", "cublaslt")


def _prefer(library: Any = None) -> str:
    """Prefer a library, None: the one that is; return the name of the one that is preferred now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the choice is experimental, or not to be had
        chosen = torch.backends.cuda.preferred_blas_library(library)
    return str(chosen).rpartition(".")[2].lower()


def others(device: str) -> tuple[str, ...]:
    """The libraries beside the one that is in use, where torch lets one choose (from 2.4 on)."""
    has_choice = hasattr(torch.backends.cuda, "preferred_blas_library")
    if back_end(device) not in {"cuda", "hip"} or not has_choice:
        return ()
    return tuple(name for name in _NAMES if name != _prefer())


def suffix(library: str) -> str:
    """What labels say of a library; nothing of the one that is in use."""
    return f" by {library}" if library else ""


@contextmanager
def preferred(library: str) -> Iterator[None]:
    """Prefer a library; "" leaves the one that is in use. Restored afterwards.

    Raises:
        LeftOut: this build does not have it.
    """
    if not library:
        yield
        return
    before = torch.backends.cuda.preferred_blas_library()
    try:
        try:
            now = _prefer(library)
        except RuntimeError as error:
            raise LeftOut(f"{library}: {(str(error).splitlines() or [''])[0][:160]}") from error
        if now != library:
            raise LeftOut(f"{library} is not to be had here: torch stays with {now}")
        yield
    finally:
        _prefer(before)
