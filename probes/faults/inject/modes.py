"""Changes modes of the processor, settings of torch and variables, as a library might."""

import ctypes
import os
import platform
from typing import Any, Final

import torch

from probes.faults.inject.replaced import replace
from probes.kit import float_traps
from probes.torch_settings import probe as settings_probe

#: fenv.h's directions of rounding, by architecture.
_DIRECTIONS: Final = {
    "x86_64": {"down": 0x400, "up": 0x800, "to_zero": 0xC00},
    "aarch64": {"up": 0x400000, "down": 0x800000, "to_zero": 0xC00000},
}

#: fenv.h's exception of a division by zero, by architecture.
_DIVISION_BY_ZERO: Final = {"x86_64": 0x04, "aarch64": 0x02}


def flushes() -> None:
    """Flush subnormal numbers in this thread, as -ffast-math does."""
    torch.set_flush_denormal(True)


def flushes_in_torch() -> None:
    """Flush them in torch's products alone, from the middle of a large tensor on."""

    def flushed(original: Any) -> Any:
        def multiply(tensor: Any, other: Any) -> Any:
            result = original(tensor, other)
            if result.numel() > 1:
                result.view(-1)[result.numel() // 2 :] = 0
            return result

        return multiply

    replace(torch.Tensor, "__mul__", flushed)


def rounds(way: str) -> None:
    """Round in another direction from now on.

    Raises:
        KeyError: the direction's number is not known for this processor.
    """
    ctypes.CDLL(None).fesetround(_DIRECTIONS[platform.machine()][way])


def traps() -> None:
    """End the process by a signal on a division by zero; pretended where none can be made so."""
    library: Any = ctypes.CDLL(None)
    bit = _DIVISION_BY_ZERO.get(platform.machine())
    made = bit is not None and hasattr(library, "feenableexcept")
    if not made or library.feenableexcept(bit) == -1:  # most Arm processors
        replace(float_traps, "unmasked", lambda _: lambda: ("division by zero",))


def sets(changes: dict[str, Any]) -> None:
    """Set attributes of torch, by path, as in `backends.cudnn.enabled`."""
    for path, value in changes.items():
        *folders, last = path.split(".")
        owner: Any = torch
        for folder in folders:
            owner = getattr(owner, folder)
        setattr(owner, last, value)


def calls(function: str, value: Any) -> None:
    """Call a function of torch, by path, with one argument."""
    target: Any = torch
    for name in function.split("."):
        target = getattr(target, name)
    target(value)


def variable(name: str, value: str) -> None:
    """Set a variable of the environment."""
    os.environ[name] = value


def promises_fingerprint() -> None:
    """Judge the settings against a fingerprint that no settings have."""
    limits = settings_probe.Limits(fingerprint="0" * 12)
    replace(settings_probe, "judge", lambda judge: lambda seen, *_: judge(seen, limits))
