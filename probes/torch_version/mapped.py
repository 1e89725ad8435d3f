"""The GPU libraries that this process has mapped, and the copies that torch's wheels contain."""

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from probes.contract import Frozen

_NVIDIA: Final = (
    *("cuda", "cudart", "cublas", "cublasLt", "cufft", "curand", "cusolver", "cusolverMg"),
    *("cusparse", "cusparseLt", "cupti", "cufile", "nvJitLink", "nvrtc", "nvToolsExt", "nccl"),
    *("nvshmem_host", r"cudnn(?:_\w+)?"),
)
_AMD: Final = (
    *("amdhip64", "hsa-runtime64", "rocblas", "hipblas", "hipblaslt", "hipfft", "rocfft"),
    *("hipsparse", "rocsparse", "hipsolver", "rocsolver", "MIOpen", "rccl"),
)
_INTEL: Final = ("sycl", "ze_loader")
_TORCH: Final = (r"torch(?:_cpu|_cuda|_hip|_xpu|_python)?", r"c10(?:_cuda|_hip|_xpu)?")

# Wheels repaired by auditwheel carry a hash: libcudart-d0da41ae.so.11.0.
_LIBRARY_NAME: Final = re.compile(
    rf"lib(?P<family>{'|'.join((*_NVIDIA, *_AMD, *_INTEL, *_TORCH))}|stdc\+\+)"
    r"(?:-[0-9a-f]{8})?\.so(?:\.(?P<version>\d+(?:\.\d+)*))?"
)

_VERSION_PARTS: Final = 10_000, 100  # NCCL's 22105 is 2.21.5


class Library(Frozen):
    """One mapped library; `own` is the wheels' copy when another one is mapped in its place."""

    family: str  # "cudnn_ops", without lib and suffix
    path: str
    version: str | None = None  # from the file's name: "9", "9.1.0", "535.129.03"
    own: str | None = None


def parse(name: str) -> tuple[str, str | None] | None:
    """Family and version of a GPU library's file name; None for any other file."""
    match = _LIBRARY_NAME.fullmatch(name)
    return None if match is None else (match["family"], match["version"])


def mapped_files(maps: str) -> Iterator[Path]:
    """The files in the text of /proc/self/maps, each once, in order of address."""
    lines = (line.split(maxsplit=5) for line in maps.splitlines())
    names = (fields[5].removesuffix(" (deleted)") for fields in lines if len(fields) > 5)
    yield from (Path(name) for name in dict.fromkeys(names) if name.startswith("/"))


def wheel_folders(torch_folder: str | None) -> list[Path]:
    """The folders in which torch's wheel and NVIDIA's wheels keep their libraries."""
    folders = [] if torch_folder is None else [Path(torch_folder) / "lib"]
    for entry in dict.fromkeys(sys.path):
        with contextlib.suppress(OSError):  # a name that no folder can have
            folders += sorted(Path(entry or ".").resolve().glob("nvidia/*/lib"))
    return folders


def libraries(
    torch_folder: str | None, search_path: str, maps: str | None = None
) -> tuple[tuple[Library, ...], tuple[str, ...]]:
    """The mapped GPU libraries, and those in LD_LIBRARY_PATH that come before the wheels' copies.

    Some libraries are loaded only at their first use (cuDNN's parts at the first convolution), so
    the search path is read as well.
    """
    if maps is None:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    files = [path for path in mapped_files(maps) if parse(path.name)]
    folders = wheel_folders(torch_folder)
    wheel_copies = {
        _family_and_major(path.name): path
        for folder in reversed(folders)
        for path in folder.glob("lib*.so*")
        if parse(path.name)
    }
    resolved_folders = {folder.resolve() for folder in folders}
    mapped = []
    for path in files:
        family, version = parse(path.name) or ("", None)
        own = wheel_copies.get(_family_and_major(path.name))
        is_own = (
            own is None
            or path.resolve() == own.resolve()
            or path.resolve().parent in resolved_folders
        )
        mapped.append(
            Library(
                family=family, path=str(path), version=version, own=None if is_own else str(own)
            )
        )
    ahead = []
    for entry in filter(None, search_path.split(":")):
        folder = Path(entry).resolve()
        if folder not in resolved_folders:
            names: set[tuple[str, str]] = set()
            with contextlib.suppress(OSError):  # a name that no folder can have
                names = {_family_and_major(path.name) for path in folder.glob("lib*.so*")}
            shadowed = sorted(
                f"lib{family}" for family, _ in names & wheel_copies.keys() - {("", "")}
            )
            ahead += [str(folder / name) for name in shadowed]
    return tuple(mapped), tuple(dict.fromkeys(ahead))


def _family_and_major(name: str) -> tuple[str, str]:
    """What the loader compares: libcudnn_ops.so.9.1.0 satisfies a request for libcudnn_ops.so.9."""
    family, version = parse(name) or ("", None)
    return family, (version or "").partition(".")[0]


def cudnn_version() -> tuple[int | None, str]:
    """The version of cuDNN (on ROCm of MIOpen), or torch's error when it refuses that version."""
    try:
        version: int | None = torch.backends.cudnn.version()
    except (RuntimeError, OSError, ImportError) as error:
        return None, f"{type(error).__name__}: {error}"[:2000]
    return version, ""


def nccl_compiled() -> tuple[int, ...] | None:
    """The version of NCCL (on ROCm of RCCL) that torch was compiled with; None without one."""
    get_version: Any = getattr(torch._C, "_nccl_version", None)
    if get_version is None:
        return None
    number = int(get_version())  # major << 32 | minor << 16 | patch
    return number >> 32, number >> 16 & 0xFFFF, number & 0xFFFF


def nccl_loaded(found: tuple[Library, ...]) -> tuple[int, ...] | None:
    """The version that the mapped libnccl reports; None when none is mapped."""
    path = next((each.path for each in found if each.family in {"nccl", "rccl"}), None)
    if path is None:
        return None
    number = ctypes.c_int(0)
    get_version = getattr(ctypes.CDLL(path), "ncclGetVersion", None)
    if get_version is None or get_version(ctypes.byref(number)) != 0:
        return None
    major, remainder = divmod(number.value, _VERSION_PARTS[0])
    return major, *divmod(remainder, _VERSION_PARTS[1])
