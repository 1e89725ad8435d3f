"""What tests of runs share."""

from pathlib import Path

import pytest

from tests.validator.runs import forget_zombies, write
from validator.engine import supervisor


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the worker can import, before all others."""
    forget_zombies()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervisor, "_REPLY_S", 1.5)  # for a worker that was stopped
    for name in ("earlier", "later", "host"):
        write(tmp_path, name)
    return tmp_path
