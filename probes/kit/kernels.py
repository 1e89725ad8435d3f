"""Launches kernels of our own on torch's current stream, through libcuda's C interface by ctypes.

Arguments keep their 64 bits, for every torch with a CUDA wheel. Code is kept in the process and
ends with it.

Ref: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__EXEC.html
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch

from probes.kit import nvrtc
from probes.kit.capabilities import back_end, capability
from probes.kit.nvrtc import Unavailable

__all__ = ["Argument", "Driver", "Module", "Unavailable", "load", "pointer", "u32", "u64"]

#: CUresult codes by which a driver refuses code that it cannot run; others mean a sick device.
_REFUSED: Final = {
    200: "CUDA_ERROR_INVALID_IMAGE",
    209: "CUDA_ERROR_NO_BINARY_FOR_GPU",
    218: "CUDA_ERROR_INVALID_PTX",
    222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    300: "CUDA_ERROR_INVALID_SOURCE",
    301: "CUDA_ERROR_FILE_NOT_FOUND",
    500: "CUDA_ERROR_NOT_FOUND",
    801: "CUDA_ERROR_NOT_SUPPORTED",
}

#: One argument of a kernel, as C has it.
Argument = ctypes.c_uint32 | ctypes.c_uint64

#: Makes a device the current one of this thread, and gives the stream that launches go to.
Place = Callable[[], AbstractContextManager[int]]

_POINTER: Final = ctypes.c_void_p
_UNSIGNED: Final = ctypes.c_uint
_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "cuCtxGetCurrent": (_POINTER,),
    "cuCtxGetDevice": (_POINTER,),
    "cuCtxPushCurrent_v2": (_POINTER,),
    "cuCtxPopCurrent_v2": (_POINTER,),
    "cuModuleLoadData": (_POINTER, ctypes.c_char_p),
    "cuModuleGetFunction": (_POINTER, _POINTER, ctypes.c_char_p),
    "cuLaunchKernel": (_POINTER, *(_UNSIGNED,) * 7, _POINTER, _POINTER, _POINTER),
    "cuGetErrorName": (ctypes.c_int, _POINTER),
    "cuGetErrorString": (ctypes.c_int, _POINTER),
}


def pointer(tensor: torch.Tensor) -> Argument:
    """The address of a tensor's first element."""
    return ctypes.c_uint64(tensor.data_ptr())


def u64(value: int) -> Argument:
    """An integer, modulo 2^64."""
    return ctypes.c_uint64(value)


def u32(value: int) -> Argument:
    """An integer, modulo 2^32."""
    return ctypes.c_uint32(value)


class Driver:
    """libcuda: calls of it, by name, with the texts of its errors."""

    def __init__(self, path: str = "libcuda.so.1") -> None:
        """Load it.

        Raises:
            Unavailable: it is not there, or lacks a function.
        """
        try:
            self._library = ctypes.CDLL(path)
            for function, types in _SIGNATURES.items():
                getattr(self._library, function).argtypes = types
                getattr(self._library, function).restype = ctypes.c_int
        except (OSError, AttributeError) as error:
            raise Unavailable(f"libcuda: {error}") from error

    def context(self) -> ctypes.c_void_p | None:
        """The context that this thread has, as torch makes one; None where it has none."""
        context = ctypes.c_void_p()
        found = self.code("cuCtxGetCurrent", ctypes.byref(context)) == 0 and context.value
        return context if found else None

    def ordinal(self) -> int | None:
        """The number of the device that this thread's context is on; None where it has none."""
        device = ctypes.c_int()
        return None if self.code("cuCtxGetDevice", ctypes.byref(device)) else device.value

    @contextmanager
    def inside(self, context: ctypes.c_void_p) -> Iterator[None]:
        """Make a context this thread's, and the one before again afterwards.

        Choosing a device does not: before CUDA 12 the runtime puts it off to its next call.
        """
        self.call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            self.code("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def code(self, function: str, *arguments: object) -> int:
        """The CUresult of a call."""
        return int(getattr(self._library, function)(*arguments))

    def call(self, function: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            Unavailable: the driver refuses this code.
            RuntimeError: any other error, in the words of torch's own.
        """
        code = self.code(function, *arguments)
        if code in _REFUSED and function != "cuLaunchKernel":
            raise Unavailable(f"{function}: {self._text('cuGetErrorName', code)}")
        if code:
            name, text = (self._text(f"cuGetError{part}", code) for part in ("Name", "String"))
            raise RuntimeError(f"CUDA error: {text} ({name} of {function})")

    def _text(self, function: str, code: int) -> str:
        found = ctypes.c_char_p()
        known = self.code(function, code, ctypes.byref(found)) == 0
        return (found.value or b"").decode(errors="replace") if known else f"error {code}"


@dataclass(frozen=True)
class Module:
    """Loaded code of one source on one device."""

    driver: Driver
    handle: ctypes.c_void_p
    place: Place
    context: ctypes.c_void_p

    def launch(
        self, name: str, *, blocks: int, threads: int, arguments: Sequence[Argument]
    ) -> None:
        """Launch one of its kernels; it runs when the stream comes to it.

        Raises:
            RuntimeError: the launch failed, or work before it did.
        """
        function = ctypes.c_void_p()
        addresses = [ctypes.addressof(argument) for argument in arguments]
        listed = (ctypes.c_void_p * len(addresses))(*addresses)
        shape = (blocks, 1, 1, threads, 1, 1, 0)  # grid, block, bytes of shared memory
        with self.place() as stream, self.driver.inside(self.context):
            self.driver.call(
                "cuModuleGetFunction", ctypes.byref(function), self.handle, name.encode()
            )
            self.driver.call("cuLaunchKernel", function, *shape, stream, listed, None)


def loaded(
    driver: Driver,
    image: bytes,
    place: Place,
    *,
    start: Callable[[], object] = lambda: None,
    ordinal: int | None = None,
) -> Module:
    """The module of a cubin, in the context of the place.

    Args:
        driver: loads it.
        image: the cubin.
        place: where it is loaded, and launched later.
        start: is called there before, and makes that device's context the thread's.
        ordinal: the number of the device that the context must be on.

    Raises:
        Unavailable: there is no context, it is another device's, or the driver cannot run this
            code.
        RuntimeError: the device is sick.
    """
    handle = ctypes.c_void_p()
    with place():
        start()
        context = driver.context()
        if context is None:
            raise Unavailable("this thread has no CUDA context")
        if ordinal is not None and driver.ordinal() != ordinal:
            raise Unavailable(f"this thread's CUDA context is not on device {ordinal}")
        driver.call("cuModuleLoadData", ctypes.byref(handle), image)
    return Module(driver, handle, place, context)


def load(source: str, device: str) -> Module:
    """Compile a source for a device, and load it there; once a process.

    Raises:
        Unavailable: kernels of our own cannot run here; the text says why.
        RuntimeError: the device is sick.
    """
    if back_end(device) != "cuda":
        raise Unavailable(f"the {back_end(device)} back-end has no NVRTC")
    index = torch.device(device).index
    return _load(source, torch.cuda.current_device() if index is None else index)


@cache
def _load(source: str, index: int) -> Module:
    where = torch.device("cuda", index)
    compute = capability(str(where))
    if compute is None:
        raise Unavailable("the compute capability is not known")
    compiler = nvrtc.compiler()
    image = compiler.cubin(source, nvrtc.architecture(compute, compiler.architectures))

    @contextmanager
    def place() -> Iterator[int]:
        with torch.cuda.device(where):
            yield int(torch.cuda.current_stream(where).cuda_stream)

    def start() -> None:
        torch.zeros(1, device=where)

    return loaded(Driver(), image, place, start=start, ordinal=index)
