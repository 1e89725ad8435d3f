"""A GPU's libraries are started beside the probes; a made-up back-end in place of CUDA."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from probes.kit.start_up import start_libraries


class Cuda:
    """What `torch.cuda` is asked."""

    def __init__(self) -> None:
        self.started = True
        self.error: Exception | None = None
        self.handles: list[tuple[str, int]] = []  # device, thread
        self.current = "none"

    def is_initialized(self) -> bool:
        """Whether a context was made."""
        return self.started

    @contextlib.contextmanager
    def device(self, device: Any) -> Iterator[None]:
        """The current device of a thread."""
        self.current = str(device)
        yield
        self.current = "none"

    def current_blas_handle(self) -> int:
        """Make the handle of the current device."""
        if self.error is not None:
            raise self.error
        self.handles.append((self.current, threading.get_ident()))
        return 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """In place of `torch.cuda`."""
    fake = Cuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def test_the_handle_is_made_in_a_thread(cuda: Cuda) -> None:
    """Of the device that is asked for; the thread ends, so that its handle goes to the pool."""
    thread = start_libraries("cuda:3")

    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert [device for device, _ in cuda.handles] == ["cuda:3"]
    assert cuda.handles[0][1] != threading.get_ident()


def test_a_device_that_no_probe_has_started_is_left_alone(cuda: Cuda) -> None:
    """Its start is judged: nothing may start it before."""
    cuda.started = False

    assert start_libraries("cuda:0") is None
    assert cuda.handles == []


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("device", ["cpu", "xpu:0", "mps"])
def test_elsewhere_there_is_nothing_to_start(device: str) -> None:
    """Only CUDA and HIP have that handle."""
    assert start_libraries(device) is None


def test_what_fails_is_left_to_the_probe_that_needs_it(cuda: Cuda) -> None:
    """Nothing is printed and nothing raised here."""
    cuda.error = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
    thread = start_libraries("cuda:0")

    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
