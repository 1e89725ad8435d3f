"""The preloaded library of `shim.c`: built here, and steered while it is in use."""

import ctypes
import mmap
import shutil
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("shim.c")


class NoCompilerError(Exception):
    """The library cannot be built here."""


def build(folder: Path) -> Path:
    """Compile the library into a folder.

    Raises:
        NoCompilerError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompilerError("no C compiler for the preloaded library")
    made = folder / "shim.so"
    flags = ("-shared", "-fPIC", "-O1", "-w")
    subprocess.run([compiler, *flags, "-o", made, _SOURCE, "-ldl"], check=True, timeout=60)
    return made


class _Control(ctypes.Structure):
    _fields_ = (
        ("real_ns", ctypes.c_int64),
        ("mono_ns", ctypes.c_int64),
        ("hide_proc", ctypes.c_int64),
    )


class Control:
    """What the library does in all processes that have it, from now on."""

    def __init__(self, path: Path) -> None:
        """Map a new file, which CHAOS_CONTROL is to name."""
        self.path = path
        path.write_bytes(bytes(ctypes.sizeof(_Control)))
        with path.open("r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), ctypes.sizeof(_Control))
        self._values = _Control.from_buffer(self._memory)

    def set_wall_clock(self, ahead_s: float) -> None:
        """Have CLOCK_REALTIME be that many seconds ahead."""
        self._values.real_ns = int(ahead_s * 1e9)

    def pass_time(self, seconds: float) -> None:
        """Have the monotonic clock and the other jump ahead, as after a pause of the machine."""
        self._values.mono_ns += int(seconds * 1e9)
        self._values.real_ns += int(seconds * 1e9)

    def hide_proc(self, hidden: bool) -> None:  # noqa: FBT001 - the one thing that it is about
        """Refuse to open what is below /proc, or no longer."""
        self._values.hide_proc = hidden
