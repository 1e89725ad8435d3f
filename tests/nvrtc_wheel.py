"""The NVRTC of NVIDIA's wheel, which compiles without a GPU; tests skip by name without it."""

import sys
from pathlib import Path

import pytest

from probes.kit import nvrtc

#: Every architecture that torch's wheels have code for, Turing to Blackwell: 90 is sm_90.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 103, 120)

#: The one that `make test` compiles for; `make test-kernels` takes them all.
USUAL = 90
EACH = [
    each if each == USUAL else pytest.param(each, marks=pytest.mark.long) for each in ARCHITECTURES
]


def compiler() -> nvrtc.Compiler:
    """The first NVRTC among the packages of the tests, or on the loader's path."""
    paths = [path for root in sys.path for path in nvrtc.candidates(Path(root))]
    try:
        return nvrtc.find(sorted(paths, key=lambda path: "/" not in path), None)
    except nvrtc.Unavailable as unavailable:
        pytest.skip(f"no NVRTC, `make test-kernels` installs it: {unavailable}")
