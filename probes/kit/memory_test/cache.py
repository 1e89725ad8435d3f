"""How much a device's caches hold: what is no more than that may never be read from memory."""

from pathlib import Path
from typing import Any, Final

import torch

from probes.contract import MIB
from probes.kit.capabilities import back_end

#: Where torch does not tell: more than any NVIDIA GPU has until now (126 MiB).
_UNTOLD: Final = {"cuda": 128 * MIB}

#: Beside the one that torch tells of: AMD's last-level cache in front of the memory.
_BESIDE: Final = {"hip": 256 * MIB}

_OF_A_CPU: Final = Path("/sys/devices/system/cpu/cpu0/cache")


def cache_bytes(device: str, of_a_cpu: Path = _OF_A_CPU) -> int:
    """The size of the device's largest cache, at most; 0 where that is not known."""
    kind = back_end(device)
    if kind == "cpu":
        return max(map(_size, of_a_cpu.glob("index*/size")), default=0)
    if kind not in {*_UNTOLD, *_BESIDE}:
        return 0
    properties: Any = torch.cuda.get_device_properties(torch.device(device))
    told = int(getattr(properties, "L2_cache_size", 0)) or _UNTOLD.get(kind, 0)
    return told + _BESIDE.get(kind, 0)


def _size(file: Path) -> int:
    """The bytes that a file of the kernel tells as `32768K`; 0 where it tells none."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    number, unit = text[:-1], {"K": 2**10, "M": 2**20}.get(text[-1:], 0)
    return int(number) * unit if number.isdigit() else 0
