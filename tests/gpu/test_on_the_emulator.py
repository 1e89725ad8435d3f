"""The tests for a real accelerator are right themselves: they pass on the emulator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Those that are worth their time here; `make test-gpu` runs all.
CHOSEN = "in_a_row or caught or two_rounds or (recorded and standard)"


@pytest.mark.long
def test_they_pass_on_the_emulator(emulator: Path) -> None:
    """And end with the table."""
    path = os.pathsep.join((str(emulator), str(ROOT)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/gpu/test_gpu.py"),
            *("-m", "gpu", "-k", CHOSEN),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "VALIDATOR_TEST_ACCELERATOR": "fake"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:]
    table = done.stdout.partition("on this accelerator")[2]
    assert "Emulated accelerator" in table
    for row in ("checks in a row without an alarm", "faults caught", "daemon, two rounds"):
        assert f"\n{row} " in table
    assert "4 passed" in done.stdout


def test_without_the_accelerator_they_are_skipped_by_name() -> None:
    """No failure, and the reason is told."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/gpu/test_gpu.py"),
            *("-m", "gpu", "-k", "in_a_row"),
        ],
        cwd=ROOT,
        env={**os.environ, "VALIDATOR_TEST_ACCELERATOR": "xpu"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:]
    assert "torch can use no xpu device here" in done.stdout
