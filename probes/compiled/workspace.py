"""Where functions are compiled: an empty cache of its own, one process, nothing kept afterwards."""

import importlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

_PREFIX: Final = "gpu-validator-compiled-"

Compiled = Callable[..., Any]


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for generated code, in force for torch and Triton until the end.

    Raises:
        OSError: there is no folder to write to.
    """
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name,
        _environment(
            TORCHINDUCTOR_CACHE_DIR=str(Path(name, "inductor")),
            TRITON_CACHE_DIR=str(Path(name, "triton")),
            TORCHINDUCTOR_COMPILE_THREADS="1",  # else a pool of processes outlives the probe
            TORCHINDUCTOR_FORCE_DISABLE_CACHES=None,
        ),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # on TF32, on online softmax, on sizes
        config: Any = importlib.import_module("torch._inductor.config")
        capture: Any = torch._dynamo.config
        threads, config.compile_threads = config.compile_threads, 1
        # Else what cannot be compiled would run as it is, and be right.
        suppress, capture.suppress_errors = capture.suppress_errors, False
        torch._dynamo.reset()
        state = torch.get_rng_state()
        try:
            yield Path(name)
        finally:
            config.compile_threads, capture.suppress_errors = threads, suppress
            torch._dynamo.reset()
            torch.set_rng_state(state)


def has_code(folder: Path) -> bool:
    """Whether a function was compiled in the workspace: each leaves a Python file there."""
    return any(Path(folder, "inductor").rglob("*.py"))


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set or remove variables of the environment, and restore them."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def compiled(function: Compiled, **options: Any) -> Compiled:
    """The function, compiled anew: what was captured of others is forgotten."""
    torch._dynamo.reset()
    made: Compiled = torch.compile(function, **options)
    return made
