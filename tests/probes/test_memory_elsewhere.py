"""The probes of hardware on the fake accelerator: what is broken there is found, or not claimed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first of them compiles

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import json, sys
from probes.{probe} import probe
findings = list(probe.judge(probe.observe("fake:1")))
print(json.dumps({{each.id.partition(".")[2]: [each.status, each.message] for each in findings}}))
"""


def findings(emulator: Path, probe: str, faults: str = "") -> dict[str, list[str]]:
    """Check -> status and message on the second fake device, in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(emulator)])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(probe=probe)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "EMULATOR_FAULTS": faults, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("probe", ["memory_pattern", "memory_full"])
def test_a_sound_device(emulator: Path, probe: str) -> None:
    """Everything passes that applies, and which way ran is told."""
    found = findings(emulator, probe)
    statuses = {check: status for check, (status, _) in found.items()}

    assert statuses.pop("error_counters") == "skip"
    assert statuses.pop("coverage") == "skip"
    assert set(statuses.values()) == {"pass"}
    assert "by torch (the fake back-end has no NVRTC)" in found["own_address"][1]
    assert probe == "memory_pattern" or "products of 2048x2048 float" in found["retention"][1]


def test_units_are_not_named(emulator: Path) -> None:
    """What tells where it ran is a kernel for NVIDIA GPUs: nothing is claimed of others."""
    found = findings(emulator, "tensor_cores")

    assert {status for status, _ in found.values()} == {"skip"}
    assert "the fake back-end has no NVRTC" in found["fp16"][1]


@pytest.mark.parametrize(
    ("faults", "checks"),
    [
        ("1:d2d:flip@every=2", {"own_address"}),
        ("1:d2d:zero", {"own_address", "planted"}),
        ("1:d2h:flip", {"own_address"}),
        ("1:aten::bitwise_xor:zero", {"planted"}),
        ("1:aten::count_nonzero:zero", {"planted"}),
        ("0:d2d:flip", set()),
    ],
)
def test_a_sick_device(emulator: Path, faults: str, checks: set[str]) -> None:
    """Copies and operations of the device that are wrong; those of another one do not matter."""
    found = findings(emulator, "memory_pattern", faults)

    assert {check for check, (status, _) in found.items() if status == "fail"} >= checks
    assert checks or {status for status, _ in found.values()} == {"pass", "skip"}


def test_little_memory(emulator: Path) -> None:
    """As much is tested as there is, and told."""
    found = findings(emulator, "memory_pattern", f"1:alloc:full:{75 << 20}")

    assert found["own_address"][0] == "pass"
    size = int(found["own_address"][1].partition(" ")[0])
    assert 4 << 20 < size < 32 << 20
