"""The probes of products on the fake accelerator: sound, and wrong products are found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first of them compiles

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import json, sys
from probes.{probe} import probe
probe.FAMILIES = {{name: probe.FAMILIES[name] for name in {checks} or probe.FAMILIES}}
findings = list(probe.judge(probe.observe("fake:1")))
print(json.dumps({{each.id.partition(".")[2]: [each.status, each.message] for each in findings}}))
"""


def findings(
    emulator: Path, probe: str, faults: str = "", checks: tuple[str, ...] = ()
) -> dict[str, list[str]]:
    """Check -> status and message on the second fake device, in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(emulator)])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(probe=probe, checks=checks)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "EMULATOR_FAULTS": faults, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("probe", "absent"),
    [
        ("matmul", {"out_dtype"}),
        pytest.param("hot_products", {"tf32"}, marks=pytest.mark.long),
    ],
)
def test_a_sound_device(emulator: Path, probe: str, absent: set[str]) -> None:
    """Everything passes but what the back-end documents as absent."""
    found = findings(emulator, probe)
    skipped = {check for check, (status, _) in found.items() if status == "skip"}

    assert {status for status, _ in found.values()} == {"pass", "skip"}, found
    assert skipped == absent


def _long(*case: str) -> Any:
    return pytest.param(*case, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("probe", "faults", "check"),
    [
        ("matmul", "1:aten::mm:flip@every=5", "layouts"),
        ("matmul", "1:aten::_int_mm:flip", "int8"),
        _long("hot_products", "1:aten::mm:flip@every=7", "float32"),
        _long("hot_products", "1:aten::_int_mm:flip@every=7", "int8"),
        _long("hot_products", "1:h2d:flip", "float64"),
    ],
)
def test_a_sick_device(emulator: Path, probe: str, faults: str, check: str) -> None:
    """A wrong product, or operands that arrive wrong."""
    assert findings(emulator, probe, faults, (check,))[check][0] == "fail"
    assert findings(emulator, probe, faults.replace("1:", "0:", 1), (check,))[check][0] == "pass"
