"""Installations that are mixed, moved or incomplete."""

from typing import Any

import numpy as np
import torch

from probes.torch_version import look


def core_of_another_folder() -> None:
    """Have torch's compiled core come from elsewhere than its Python files."""
    torch._C.__file__ = "/usr/lib/python3/dist-packages/torch/_C.so"


def namespace_in_its_place() -> None:
    """Have a folder without code stand where torch should."""
    torch.__file__ = None  # type: ignore[assignment]


def version_of_another_build(version: str) -> None:
    """Have torch's version file be another build's."""
    torch.__version__ = version  # type: ignore[assignment]


def numpy_overwritten() -> None:
    """Have NumPy's files be another version's than its metadata."""
    np.__version__ = "1.21.0"  # type: ignore[misc]


def requirement_missing() -> None:
    """Have nothing installed of what torch requires."""
    missing: Any = lambda _: None  # noqa: E731
    look._installed = missing
