"""Compiles CUDA source to a cubin with the NVRTC that torch's CUDA wheel brings.

Through its public C interface by ctypes: no compiler, no headers and no package are needed, and
nothing is written to disk. Only code for one architecture is made, never PTX, which the driver
would have to translate.

Ref: https://docs.nvidia.com/cuda/nvrtc/
"""

import ctypes
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

#: Names for the loader's path, newest first; torch's own version of CUDA is tried before them.
_NAMES: Final = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")

#: Where NVIDIA's wheels keep it, from the folder that holds torch's: CUDA 13 and later, and before.
_WHEELS: Final = ("nvidia/cu[0-9]*/lib", "nvidia/cuda_nvrtc/lib")

#: The library with the compiler; its companion libnvrtc-builtins has another name.
_FILE: Final = re.compile(r"libnvrtc(-[0-9a-f]{8})?\.so(\.\d+)*")
_MAPPED: Final = re.compile(r"\s(/\S*/libnvrtc[^/\s]*)$", re.MULTILINE)

_OPTIONS: Final = ("--std=c++17",)

#: Most of a compiler's log that is kept.
_LOG_CHARACTERS: Final = 2000


class Unavailable(Exception):  # noqa: N818 - no error: the caller goes another way
    """Kernels of our own cannot run here; the text says why."""


def candidates(root: Path | None = None, maps: Path = Path("/proc/self/maps")) -> Iterator[str]:
    """Where NVRTC may be, best first: mapped already, the wheels beside torch, torch/lib, a name.

    `root` is the folder that holds torch's folder.
    """
    try:
        mapped = _MAPPED.findall(maps.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        mapped = []
    yield from (path for path in dict.fromkeys(mapped) if _FILE.fullmatch(Path(path).name))
    root = Path(torch.__file__).parents[1] if root is None else root
    folders = [folder for pattern in _WHEELS for folder in sorted(root.glob(pattern), reverse=True)]
    for folder in (*folders, root / "torch" / "lib"):
        files = (file for file in folder.glob("libnvrtc*") if _FILE.fullmatch(file.name))
        yield from map(str, sorted(files, reverse=True))
    yield from _NAMES


@dataclass(frozen=True)
class Compiler:
    """A loaded NVRTC."""

    library: Any
    path: str
    version: tuple[int, int]
    architectures: tuple[int, ...]  # as 90 for sm_90, ascending; empty where it cannot tell

    def cubin(self, source: str, architecture: int, name: str = "kernels.cu") -> bytes:
        """The code of the source for one architecture, as 90 for sm_90.

        Raises:
            Unavailable: it does not compile; the text has the compiler's log.
        """
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            *(ctypes.byref(program), source.encode(), name.encode(), 0, None, None),
        )
        try:
            options = [f"--gpu-architecture=sm_{architecture}".encode()]
            options += [option.encode() for option in _OPTIONS]
            listed = (ctypes.c_char_p * len(options))(*options)
            if self.library.nvrtcCompileProgram(program, len(options), listed):
                log = self._bytes(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
                raise Unavailable(
                    f"NVRTC {self.path} does not compile {name} for sm_{architecture}: "
                    f"{log[:_LOG_CHARACTERS]}"
                )
            return self._bytes(program, "CUBIN")
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self.library, function)(*arguments)
        if code:
            text = self.library.nvrtcGetErrorString(code)
            raise Unavailable(f"NVRTC {self.path}: {function}: {(text or b'').decode()} ({code})")


#: Function -> the types of its arguments; all but one return a code.
_POINTER: Final = ctypes.c_void_p
_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "nvrtcVersion": (_POINTER, _POINTER),
    "nvrtcCreateProgram": (
        *(_POINTER, ctypes.c_char_p, ctypes.c_char_p),
        *(ctypes.c_int, _POINTER, _POINTER),
    ),
    "nvrtcCompileProgram": (_POINTER, ctypes.c_int, _POINTER),
    "nvrtcGetCUBINSize": (_POINTER, _POINTER),
    "nvrtcGetCUBIN": (_POINTER, _POINTER),
    "nvrtcGetProgramLogSize": (_POINTER, _POINTER),
    "nvrtcGetProgramLog": (_POINTER, _POINTER),
    "nvrtcDestroyProgram": (_POINTER,),
    "nvrtcGetErrorString": (ctypes.c_int,),
}


def load(path: str) -> Compiler:
    """Load one NVRTC.

    Raises:
        OSError: it is not there, or what it needs is not.
        AttributeError: it is older than 11.1, which makes no cubin.
        Unavailable: it does not tell its version.
    """
    library = ctypes.CDLL(path)
    for function, types in _SIGNATURES.items():
        call = getattr(library, function)
        call.argtypes = types
        call.restype = ctypes.c_int
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    major, minor = ctypes.c_int(), ctypes.c_int()
    if library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)):
        raise Unavailable(f"NVRTC {path} does not tell its version")
    version = (major.value, minor.value)
    return Compiler(library, path, version, _architectures(library))


def _architectures(library: Any) -> tuple[int, ...]:
    """What the library has code for; empty before NVRTC 11.2, which cannot tell."""
    count = ctypes.c_int()
    if not hasattr(library, "nvrtcGetSupportedArchs"):
        return ()
    if library.nvrtcGetNumSupportedArchs(ctypes.byref(count)) or count.value < 1:
        return ()
    found = (ctypes.c_int * count.value)()
    return () if library.nvrtcGetSupportedArchs(found) else tuple(sorted(found))


def find(paths: Iterable[str], cuda: str | None) -> Compiler:
    """The first NVRTC among the paths that fits torch's version of CUDA, as "13.0".

    A driver runs code that a compiler of its own major version made, so that another major version
    than torch's is not taken.

    Raises:
        Unavailable: there is none.
    """
    problems: list[str] = []
    for path in paths:
        try:
            compiler = load(path)
        except (OSError, AttributeError, Unavailable) as error:
            problems.append(str(error))
            continue
        if cuda is None or cuda.partition(".")[0] == str(compiler.version[0]):
            return compiler
        problems.append(f"{path} is {compiler.version[0]}.{compiler.version[1]}, torch's is {cuda}")
    raise Unavailable(f"no NVRTC that fits: {'; '.join(problems[:3]) or 'nowhere to look'}")


#: Architectures of modules that hold CPU and GPU: their code runs on no board, nor a board's there.
_TEGRA: Final = frozenset({53, 62, 72, 87, 101})


@cache
def compiler() -> Compiler:
    """This process's NVRTC.

    Raises:
        Unavailable: there is none for torch's version of CUDA.
    """
    return find(candidates(), torch.version.cuda)


def architecture(capability: tuple[int, int], known: tuple[int, ...]) -> int:
    """The architecture to compile for: the device's own, or the nearest below of its generation.

    Code for 9.0 runs on 9.x, and never on 10.x; code for a Tegra runs on that one alone.

    Ref: https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility

    Raises:
        Unavailable: the compiler knows none of that generation.
    """
    major, minor = capability
    own = 10 * major + minor
    fitting = [each for each in known if each // 10 == major and each < own]
    fitting = [] if own in _TEGRA else [each for each in fitting if each not in _TEGRA]
    fitting += [own] * (own in known)
    if known and not fitting:
        raise Unavailable(f"NVRTC has no code for sm_{own}, it knows {list(known)}")
    return max(fitting, default=own)
