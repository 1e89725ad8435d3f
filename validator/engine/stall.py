"""Where a process stands that imports torch and does not come to an end.

The kernel says what it waits in, and faulthandler, asked by a signal, which Python line that is. A
process that reads files is slow, not broken: whoever serves the files is late.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOOKS: Final = 5
_BETWEEN_S: Final = 0.02
#: Calls that read files, on x86-64 and on arm64 (linux/unistd.h).
_FILE_CALLS: Final = {
    "x86_64": {
        0: "read", 2: "open", 4: "stat", 5: "fstat", 6: "lstat", 8: "lseek",
        17: "pread64", 19: "readv", 21: "access", 78: "getdents", 89: "readlink", 217: "getdents64",
        257: "openat", 262: "newfstatat", 267: "readlinkat", 269: "faccessat", 332: "statx",
        437: "openat2", 439: "faccessat2",
    },
    "aarch64": {
        48: "faccessat", 56: "openat", 61: "getdents64", 62: "lseek", 63: "read", 65: "readv",
        67: "pread64", 78: "readlinkat", 79: "newfstatat", 80: "fstat", 291: "statx",
        437: "openat2", 439: "faccessat2",
    },
}  # fmt: skip
_IOCTL: Final = {"x86_64": 16, "aarch64": 29}
_CALL_ON_DRIVER: Final = "ioctl of "
_OF_FILES: Final = frozenset(
    {"read", "readv", "pread64", "lseek", "fstat", "getdents", "getdents64"}
)
_NO_FILES: Final = ("socket:", "anon_inode:")
_DRIVER: Final = re.compile(r"^/dev/(nvidia|kfd|dri|accel|dxg)")
_FRAME: Final = re.compile(r'^  File "([^"]*)", line (\d+) in (.+)$', re.MULTILINE)
#: What the environment under test is made of: torch, its parts and back-ends, and NumPy.
_UNDER_TEST: Final = re.compile(r"(^|/)(torch|numpy|functorch|triton)\w*(\.libs)?(\.py$|/)")


@dataclass(frozen=True)
class Stall:
    """Where a process stands. `blames_torch`: in code of torch's or the driver's, not in a file."""

    blames_torch: bool
    text: str
    hint: str = (
        "torch's files are read slowly: look at the file system that they are on, or give "
        "the import longer: `probes.torch_version.timeout` in the settings, "
        "GPU_VALIDATOR_PROBES__TORCH_VERSION__TIMEOUT in the environment"
    )


def kernel_activity(pid: int) -> str:
    """The file or driver call that a process is in, as text; empty when it is in none."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_S)
        if text := _io(pid):
            return text
    return ""


def is_in_driver(kernel: str) -> bool:
    """Whether what `kernel_activity` gave is a call on a driver."""
    return kernel.startswith(_CALL_ON_DRIVER)


def _io(pid: int) -> str:
    """The call on a file or driver that a process is in now, in words."""
    call, _, arguments = _read(pid, "syscall").partition(" ")
    state = _read(pid, "stat").rpartition(")")[2].split()[:1]
    machine = os.uname().machine
    if call.isdigit():
        number = int(call)
        target = _target(pid, arguments)
        if number == _IOCTL.get(machine) and _DRIVER.search(target):
            return f"{_CALL_ON_DRIVER}{target}"
        name = _FILE_CALLS.get(machine, {}).get(number, "")
        if name and not target.startswith(_NO_FILES):
            return f"{name} of {target}" if name in _OF_FILES and target else name
    if state == ["D"]:
        return f"an uninterruptible wait ({_read(pid, 'wchan') or 'for a file, as a rule'})"
    return ""


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # ended, or not ours to look at
        return ""


def _target(pid: int, arguments: str) -> str:
    """The file behind a call's first argument, where that is a descriptor."""
    first = arguments.split(" ", 1)[0]
    try:
        return str(Path(f"/proc/{pid}/fd/{int(first, 16)}").readlink())
    except (OSError, ValueError):
        return ""


def stall(kernel: str, log_tail: str) -> Stall:
    """Whose a stall is, by what the kernel and the traceback in the log say.

    Args:
        kernel: what `kernel_activity` gave.
        log_tail: holds faulthandler's traceback, innermost frame first; without one nothing tells.
    """
    _, found, traceback = log_tail.rpartition("(most recent call first):")
    frames = _FRAME.findall(traceback) if found else []
    if is_in_driver(kernel):
        return Stall(True, f"it stands in {kernel}")
    where = (
        f"at {frames[0][0]}:{frames[0][1]} in {frames[0][2]}" if frames else "at an unknown place"
    )
    if kernel:
        return Stall(False, f"it stands in {kernel}, {where}")
    return Stall(bool(frames) and _is_under_test(frames), f"it stands {where}")


def _is_under_test(frames: list[tuple[str, str, str]]) -> bool:
    """Whether the innermost frame is torch's own, or loads one of its libraries."""
    file, _, function = frames[0]
    if _UNDER_TEST.search(file):
        return True
    loads = function == "create_module" or (
        file.endswith("/ctypes/__init__.py") and "__init__" in function
    )
    outer = next((each for each, _, _ in frames[1:] if not _is_loader(each)), "")
    return loads and bool(_UNDER_TEST.search(outer))


def _is_loader(file: str) -> bool:
    return file.startswith("<frozen importlib") or file.endswith("/ctypes/__init__.py")
