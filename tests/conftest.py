"""What all tests share."""

from pathlib import Path

import pytest

from tests.emulator import install


@pytest.fixture(scope="session")
def emulator() -> Path:
    """The folder that gives a process the devices `fake:0` and `fake:1`, when on PYTHONPATH."""
    return install()
