"""Checks of what computes in parallel: one OpenMP runtime, and one copy of each BLAS.

Two runtimes start two sets of threads, take locks of each other's, and some mixes hang or compute
wrong. Copies that wheels bundle under names of their own (`libgomp-a34b3233.so.1`, a folder
`numpy.libs`) are made to stand side by side.

Ref: https://github.com/joblib/threadpoolctl/blob/master/multiple_openmp.md
     https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html (a preloaded libiomp5)
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from probes.contract import Finding, require
from probes.torch_version.mapped import mapped_files

#: The variable that silences Intel's and LLVM's own refusal to run twice (Error #15).
SILENCED: Final = "KMP_DUPLICATE_LIB_OK"

_OPENMP: Final = re.compile(r"lib(gomp|iomp5|omp)(?:[-.][0-9a-f]{8})?\.so(?:\.\d+)*")
_BLAS: Final = re.compile(
    r"lib(?:scipy_)?(openblas|mkl_core|mkl_rt|blis|flexiblas|nvpl_blas_core|armpl)"
    r"(?:64)?_?(?:p|o)?(?:-[\w.-]+)?\.so(?:\.\d+)*"
)
_HASHED: Final = re.compile(r"[-.][0-9a-f]{8}\.so")

_HINT: Final = (
    "confirm with `python -m threadpoolctl -i torch numpy`; install torch and NumPy from one "
    "source (all by pip, or all from one conda channel)"
)


def loaded(maps: str) -> tuple[str, ...]:
    """Paths of the OpenMP runtimes and BLAS libraries in the text of /proc/self/maps."""
    return tuple(
        str(path)
        for path in mapped_files(maps)
        if _OPENMP.fullmatch(path.name) or _BLAS.fullmatch(path.name)
    )


def _bundled(path: Path) -> bool:
    """Whether a wheel brought this copy for itself alone."""
    own_folder = path.parent.name.endswith(".libs") or path.parts[-3:-1] == ("torch", "lib")
    return own_folder or _HASHED.search(path.name) is not None


def _families(paths: Sequence[str], names: re.Pattern[str]) -> dict[str, list[Path]]:
    """The mapped files of each family."""
    found: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        if matched := names.fullmatch(path.name):
            found.setdefault(matched[1], []).append(path)
    return found


def openmp(paths: Sequence[str], variables: Mapping[str, str]) -> Finding:
    """One OpenMP runtime is mapped, and its own alarm for a second one is not switched off.

    GNU's may be there in several bundled copies; Intel's and LLVM's are one another's double.
    """
    found = _families(paths, _OPENMP)
    files = [str(path) for each in found.values() for path in each]
    kinds = {"gomp": found.get("gomp", []), "omp": found.get("iomp5", []) + found.get("omp", [])}
    # One that is preloaded answers for GNU's too: the recipe of PyTorch's tuning guide.
    preloaded = variables.get("LD_PRELOAD", "").replace(":", " ").split()
    answers = any(str(path) in preloaded for path in kinds["omp"])
    loose = [path for path in kinds["gomp"] if not _bundled(path)]
    several = (all(kinds.values()) and not answers) or len(kinds["omp"]) > 1 or len(loose) > 1
    silenced = variables.get(SILENCED, "").strip().lower() in {"1", "true", "yes", "on"}
    problems = [f"several OpenMP runtimes are mapped: {', '.join(files)}"] if several else []
    if silenced:
        problems.append(f"{SILENCED}={variables[SILENCED]} lets two of them run, perhaps wrong")
    return require(
        "torch_version.one_openmp",
        not problems,
        "; ".join(problems) or [*files],
        "one OpenMP runtime",
        message="; ".join(problems),
        hint=f"{_HINT}; unset {SILENCED}" if silenced else _HINT,
        action="fix_config" if silenced and not several else "fix_image",
        otherwise="warn",
    )


def blas(paths: Sequence[str]) -> Finding:
    """No BLAS library is mapped twice, but for copies that wheels bundle for themselves."""
    found = _families(paths, _BLAS)
    twice = [
        loose
        for each in found.values()
        if len(loose := [str(path) for path in each if not _bundled(path)]) > 1
    ]
    text = "; ".join(" and ".join(copies) for copies in twice)
    return require(
        "torch_version.one_blas",
        not twice,
        text or [str(path) for each in found.values() for path in each],
        "one copy of each BLAS",
        message=f"one BLAS is mapped twice: {text}",
        hint=_HINT,
        action="fix_image",
        otherwise="warn",
    )
