"""Exceptions of the processor that end a process: read, and masked for a while, through libc.

What the processor does on a division by zero or a NaN is decided by a mode of each thread, which a
library may change: the standard, Python, NumPy and torch count on a result and no signal.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

#: Bits of MXCSR's exceptions, which are numbered alike in fenv.h of x86. Source: Intel, Software
#: Developer's Manual, volume 1, section 10.2.3.
_NAMES_X86: Final = {
    0x01: "invalid operation",
    0x02: "subnormal operand",
    0x04: "division by zero",
    0x08: "overflow",
    0x10: "underflow",
    0x20: "inexact result",
}
_MXCSR: Final = 28  # its place in fenv_t, behind the state of the x87
_MASKS_SHIFT: Final = 7
_FENV_BYTES: Final = 64  # more than fenv_t has anywhere


def unmasked() -> tuple[str, ...]:
    """The exceptions that end this thread's process; empty where that cannot be told."""
    library: Any = ctypes.CDLL(None)
    if platform.machine() == "x86_64" and hasattr(library, "fegetenv"):
        state = ctypes.create_string_buffer(_FENV_BYTES)
        library.fegetenv(state)
        mode = int.from_bytes(state.raw[_MXCSR : _MXCSR + 4], "little")
        return tuple(name for bit, name in _NAMES_X86.items() if not mode >> _MASKS_SHIFT & bit)
    if hasattr(library, "fegetexcept") and (bits := library.fegetexcept()):  # glibc
        return (f"exceptions {bits:#x}",)
    return ()


@contextmanager
def masked() -> Iterator[None]:
    """Mask them all in this thread, and restore them, where libc can (glibc)."""
    library: Any = ctypes.CDLL(None)
    if not hasattr(library, "feenableexcept"):
        yield
        return
    before = library.fegetexcept()
    library.fedisableexcept(before)
    try:
        yield
    finally:
        library.feclearexcept(before)
        library.feenableexcept(before)
