"""Checks of the parallel runtimes: one OpenMP runtime, and one copy of each BLAS.

Two runtimes start two sets of threads and may wait for each other's locks; some pairs hang or
compute wrong. Copies that wheels bundle under unique names (`libgomp-a34b3233.so.1`, a folder
`numpy.libs`) are made to be loaded together.

Ref: https://github.com/joblib/threadpoolctl/blob/master/multiple_openmp.md
     https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html (a preloaded libiomp5)
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from probes.contract import Finding, require
from probes.torch_version.mapped import mapped_files

#: The variable that switches off the error of Intel's and LLVM's second runtime (Error #15).
ALARM_OFF: Final = "KMP_DUPLICATE_LIB_OK"

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


def _is_bundled(path: Path) -> bool:
    """Whether a wheel contains this copy for its own use."""
    own_folder = path.parent.name.endswith(".libs") or path.parts[-3:-1] == ("torch", "lib")
    return own_folder or _HASHED.search(path.name) is not None


def _files_by_family(paths: Sequence[str], names: re.Pattern[str]) -> dict[str, list[Path]]:
    """The mapped files by family; `names` has the family as its first group."""
    found: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        if matched := names.fullmatch(path.name):
            found.setdefault(matched[1], []).append(path)
    return found


def openmp(paths: Sequence[str], variables: Mapping[str, str]) -> Finding:
    """One OpenMP runtime is mapped, and its error about a second one is not switched off.

    Several bundled copies of GNU's are right. Intel's and LLVM's are the same runtime.
    """
    by_family = _files_by_family(paths, _OPENMP)
    files = [str(path) for each in by_family.values() for path in each]
    kinds = {
        "gomp": by_family.get("gomp", []),
        "omp": by_family.get("iomp5", []) + by_family.get("omp", []),
    }
    # A preloaded Intel runtime also serves GNU's calls, as PyTorch's tuning guide recommends.
    preloaded = variables.get("LD_PRELOAD", "").replace(":", " ").split()
    omp_preloaded = any(str(path) in preloaded for path in kinds["omp"])
    unbundled_gomp = [path for path in kinds["gomp"] if not _is_bundled(path)]
    several = (
        (all(kinds.values()) and not omp_preloaded)
        or len(kinds["omp"]) > 1
        or len(unbundled_gomp) > 1
    )
    silenced = variables.get(ALARM_OFF, "").strip().lower() in {"1", "true", "yes", "on"}
    problems = [f"several OpenMP runtimes are mapped: {', '.join(files)}"] if several else []
    if silenced:
        problems.append(f"{ALARM_OFF}={variables[ALARM_OFF]} lets two of them run, perhaps wrong")
    return require(
        "torch_version.one_openmp",
        not problems,
        "; ".join(problems) or [*files],
        "one OpenMP runtime",
        message="; ".join(problems),
        hint=f"{_HINT}; unset {ALARM_OFF}" if silenced else _HINT,
        action="fix_config" if silenced and not several else "fix_image",
        otherwise="warn",
    )


def blas(paths: Sequence[str]) -> Finding:
    """No BLAS library is mapped twice, except copies that wheels bundle."""
    by_family = _files_by_family(paths, _BLAS)
    duplicates = [
        unbundled
        for each in by_family.values()
        if len(unbundled := [str(path) for path in each if not _is_bundled(path)]) > 1
    ]
    text = "; ".join(" and ".join(copies) for copies in duplicates)
    return require(
        "torch_version.one_blas",
        not duplicates,
        text or [str(path) for each in by_family.values() for path in each],
        "one copy of each BLAS",
        message=f"one BLAS is mapped twice: {text}",
        hint=_HINT,
        action="fix_image",
        otherwise="warn",
    )
