"""The fake accelerator is right without a fault, and each of its faults has its effect.

All trials run in forked children, as probes do, some in the thread of a backward pass.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import emulator as package
from tests.emulator.sick import FAULT_TRIALS
from tests.emulator.trials import HEALTHY

pytestmark = [
    pytest.mark.timeout(300),  # the first of them compiles
    pytest.mark.slow,
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(emulator: Path) -> dict[str, dict[str, Any]]:
    """The results of all trials, which run once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulator.trials"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(emulator), "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr
    results_by_kind: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return results_by_kind


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(results: dict[str, dict[str, Any]], name: str) -> None:
    """Without a fault it does what an accelerator does."""
    assert results["healthy"][name] is None


@pytest.mark.parametrize("name", FAULT_TRIALS)
def test_sick(results: dict[str, dict[str, Any]], name: str) -> None:
    """With a fault it has the effect of that fault and no other."""
    assert results["sick"][name] == FAULT_TRIALS[name].outcome


def test_built_once(emulator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is compiled."""
    monkeypatch.setattr(package, "_build", lambda *_: pytest.fail("compiled again"))

    assert package.install() == emulator


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("_compiler", lambda: None, "no C\\+\\+ compiler"),
        ("_OLDEST_TORCH", "99", "the fake accelerator needs 99"),
    ],
)
def test_skips_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: object, why: str) -> None:
    """Where it cannot be built, tests are skipped with the reason."""
    monkeypatch.setattr(package, name, value)

    with pytest.raises(pytest.skip.Exception, match=why):
        package.install()
