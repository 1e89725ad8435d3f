"""What tests of runs share."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from probes.contract import ProbeSpec
from tests.validator.runs import forget_zombies, write
from validator.engine import supervisor
from validator.engine.run import Run
from validator.report import Device


def _in_one_part(_run: Run, _device: Device, specs: Sequence[ProbeSpec]) -> list[list[ProbeSpec]]:
    return [[spec for spec in specs if not spec.is_heavy]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the worker can import, before all others."""
    forget_zombies()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(supervisor, "_REPLY_S", 1.5)  # for a worker that was stopped
    # One after another, as on a GPU and on one core, so that there is an earlier and a later one.
    monkeypatch.setattr(Run, "_parts", _in_one_part)
    for name in ("earlier", "later", "host"):
        write(tmp_path, name)
    return tmp_path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 64 KiB; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
