"""Starts a GPU's libraries beside the probes that do not need them yet."""

import contextlib
import threading

import torch


def start_libraries(device: str) -> threading.Thread | None:
    """Create the cuBLAS (hipBLAS) handle of the device in a thread; None where there is nothing.

    The handle takes a tenth of a second and more. torch keeps it in a pool when the thread ends, so
    that the first product of a probe finds it. To be called once torch has started the device: it
    starts nothing that a probe judges the start of.
    """
    where = torch.device(device)
    if where.type != "cuda" or not torch.cuda.is_initialized():
        return None
    thread = threading.Thread(target=_create_handle, args=(where,), daemon=True)
    thread.start()
    return thread


def _create_handle(device: torch.device) -> None:
    # What fails here fails again in the first probe that needs it, which reports it.
    with contextlib.suppress(RuntimeError, AssertionError), torch.cuda.device(device):
        torch.cuda.current_blas_handle()
