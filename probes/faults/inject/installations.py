"""Simulates installations that are mixed, moved or incomplete."""

from typing import Any

import numpy as np
import torch

from probes.torch_version import look


def core_of_another_folder() -> None:
    """Make torch's compiled core seem to come from another folder than its Python files."""
    torch._C.__file__ = "/usr/lib/python3/dist-packages/torch/_C.so"


def namespace_in_its_place() -> None:
    """Make torch look like a folder without code."""
    torch.__file__ = None  # type: ignore[assignment]


def version_of_another_build(version: str) -> None:
    """Change torch's version to that of another build."""
    torch.__version__ = version  # type: ignore[assignment]


def numpy_overwritten() -> None:
    """Change NumPy's version to differ from its metadata."""
    np.__version__ = "1.21.0"  # type: ignore[misc]


def requirement_missing() -> None:
    """Make torch's requirements look not installed."""
    missing: Any = lambda _: None  # noqa: E731
    look._installed = missing
