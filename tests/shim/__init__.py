"""CUDA kernels built for the host, behind a driver that launches them: no GPU, no CUDA needed.

The same text that NVRTC compiles is compiled by the host's C++ compiler under `shim.h`; threads run
one after another on memory of the host. `driver.h` has the functions of libcuda that launch.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.kit import kernels

_HERE = Path(__file__).parent
_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\(')

#: What memory may do wrong, in the order of `Fault` in shim.h.
FAULTS = (
    *("none", "stuck at 0", "stuck at 1", "no rise", "no fall"),
    *("lost", "coupled", "aliased", "misread"),
)

#: What the fake driver takes for code; a real one is an ELF file too.
IMAGE = b"\x7fELF"


@dataclass(frozen=True)
class Shim:
    """A driver whose kernels run on the host."""

    path: Path
    library: Any

    def module(self, stream: int = 0) -> kernels.Module:
        """The kernels, as `kernels.load` gives them for a GPU."""

        @contextmanager
        def place() -> Iterator[int]:
            yield stream

        return kernels.loaded(kernels.Driver(str(self.path)), IMAGE, place)

    def refuse(self, function: str, code: int) -> None:
        """Make a function of the driver return a code from now on."""
        self.library.shim_refuse(function.encode(), code)

    def place_on(self, device: int) -> None:
        """Make the context of device 0 or 1 the thread's own; -1: it has none."""
        self.library.shim_context(device)

    def sicken(
        self,
        fault: str = "none",
        at: torch.Tensor | None = None,
        other: torch.Tensor | None = None,
        *,
        mask: int = 2**64 - 1,
        times: int = -1,
    ) -> None:
        """Make memory wrong, as kernels load and store it, from now on.

        Args:
            fault: one of `FAULTS`.
            at: the word with the fault, a view of one element.
            other: the word that is changed too, or is the same cell.
            mask: the bits.
            times: how often it happens where that matters; -1: always.
        """
        places = (0 if word is None else word.data_ptr() for word in (at, other))
        pointers = [ctypes.c_void_p(place) for place in places]
        number, bits = FAULTS.index(fault), ctypes.c_uint64(mask)
        self.library.shim_sick(number, *pointers, bits, ctypes.c_long(times))

    def last_launch(self) -> list[int]:
        """Grid (3), block (3), bytes of shared memory and stream of the last launch."""
        self.library.shim_last.restype = ctypes.POINTER(ctypes.c_uint64)
        return list(self.library.shim_last()[:8])


def build(source: str, folder: Path) -> Shim:
    """Build the kernels of a source; skip the test where there is no C++ compiler."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler for kernels on the host")
    table = " ".join(f"ENTRY({name})" for name in _KERNEL.findall(source))
    text = f'#include "shim.h"\n{source}\n#define KERNELS(ENTRY) {table}\n#include "driver.h"\n'
    file, library = folder / "kernels.cpp", folder / "libkernels.so"
    file.write_text(text, encoding="utf-8")
    command = [compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-I{_HERE}"]
    subprocess.run([*command, "-o", library, file], check=True, timeout=100)
    return Shim(library, ctypes.CDLL(str(library)))
