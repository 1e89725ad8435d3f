"""Whether this image can compile for a device: a compiler, headers, a folder to run code from."""

import ctypes
import os
import shlex
import shutil
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from probes.legible import legible, variables

_COMPILE_S: Final = 60
#: What generated code includes, and one function to call.
_SOURCE: Final = """#include <Python.h>
#include <{math}>
extern "C" int forty_two(void) {{ return 42; }}
"""
_SOURCE_OF_C: Final = _SOURCE.replace('extern "C" ', "")
_TEXT_CHARACTERS: Final = 200

#: Variables by which torch.compile leaves functions as they are.
_SWITCHES: Final = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE", "TORCH_COMPILE_STANCE")

#: The compute capability from which Triton generates code.
_TRITON_SINCE: Final = (7, 0)


def why_not(device: str, folder: Path) -> str:
    """Why torch.compile cannot be tried on the device here; empty when it can.

    `folder` is where generated code will lie; a small library is compiled there, and removed.
    """
    if why := _why_no_capture():
        return why
    kind = torch.device(device).type
    if kind == "cpu":
        compiler = os.environ.get("CXX") or _first("g++", "clang++")
        return _why_no_library(compiler, "C++", folder)
    if kind in {"cuda", "xpu"}:
        return _why_no_triton(device) or _why_no_library(
            os.environ.get("CC") or _first("cc", "gcc", "clang"), "C", folder
        )
    return f"it is not known how code for {kind} is generated"


def _why_no_capture() -> str:
    """Why functions cannot be captured in this Python."""
    if not hasattr(torch, "compile"):
        return "this torch has no torch.compile"
    try:
        torch._dynamo.eval_frame.check_if_dynamo_supported()
    except (RuntimeError, AttributeError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return "" if _captures() else _switched_off()


def _captures() -> bool:
    """Whether a function reaches a back-end at all; where it does not, it runs as it is."""
    graphs: list[Any] = []

    def keep(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.optimize(keep)(lambda x: x + 1)(torch.ones(1))
    torch._dynamo.reset()
    return bool(graphs)


def _switched_off() -> str:
    """Why functions are left as they are, by the variables that ask for it."""
    found = [f"{name}={value}" for name, value in variables(_SWITCHES).items()]
    return "torch.compile is switched off" + (f" by {', '.join(found)}" if found else "")


def _first(*names: str) -> str:
    return next((name for name in names if shutil.which(name)), names[0])


def _why_no_triton(device: str) -> str:
    """Why there is no Triton for the device."""
    if find_spec("triton") is None:
        return "torch.compile needs Triton on a GPU, which is not installed"
    if torch.device(device).type != "cuda" or torch.version.hip is not None:
        return ""
    found = torch.cuda.get_device_capability(device)
    if found < _TRITON_SINCE:
        return f"Triton needs compute capability 7.0, and this is {found[0]}.{found[1]}"
    return ""


def _why_no_library(compiler: str, language: str, folder: Path) -> str:
    """Why no library can be made and loaded with that compiler."""
    shown = legible(compiler, _TEXT_CHARACTERS)
    try:
        command = shlex.split(compiler)
    except ValueError:  # a quote that is not closed
        command = []
    if not command or shutil.which(command[0]) is None:
        return f"torch.compile needs a {language} compiler, and there is no {shown}"
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        return f"torch.compile needs Python's headers, and there is no Python.h in {include}"
    source = folder / f"check.{'cpp' if language == 'C++' else 'c'}"
    library = folder / "check.so"
    text = _SOURCE.format(math="cmath") if language == "C++" else _SOURCE_OF_C.format(math="math.h")
    source.write_text(text, encoding="utf-8")
    options = ["-shared", "-fPIC", f"-I{include}", str(source), "-o", str(library)]
    options += ["-fopenmp"] if language == "C++" else []
    try:
        done = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_S,
            check=False,
        )
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "rror" in line), done.stderr)
            return f"{shown} does not work: {first.strip()[:_TEXT_CHARACTERS]}"
        answer = ctypes.CDLL(str(library)).forty_two()
    except subprocess.TimeoutExpired:
        return f"{shown} took longer than {_COMPILE_S} s for one line"
    except OSError as error:  # a file system that is mounted noexec
        return f"a library in {folder.parent} cannot be loaded: {str(error)[:_TEXT_CHARACTERS]}"
    finally:
        source.unlink(missing_ok=True)
        library.unlink(missing_ok=True)
    return "" if answer == 42 else f"{shown} makes a library that answers {answer}, not 42"
