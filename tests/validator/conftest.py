"""What tests of runs share."""

from pathlib import Path

import pytest

from tests.validator.runs import forget_zombies, write
from validator.engine import supervisor
from validator.engine.run import Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the worker can import, before all others."""
    forget_zombies()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervisor, "_REPLY_S", 1.5)  # for a worker that was stopped
    # One after another, as on a GPU and on one core, so that there is an earlier and a later one.
    monkeypatch.setattr(Run, "_parts", lambda _run, specs: [specs])
    for name in ("earlier", "later", "host"):
        write(tmp_path, name)
    return tmp_path
