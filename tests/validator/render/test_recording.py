"""`check --record FILE`: what a recording of new hardware needs, and nothing that names a node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from probes.catalog import BY_NAME
from probes.contract import Finding
from tests.validator.reports import report, result
from validator.render.recording import anonymous
from validator.report import Device, Report, to_json

ROOT = Path(__file__).resolve().parents[3]

GPU, INSTANCE = "8dfa2c7d-60e9-0056-d6f9-d685c5583bd6", "1FA1B2C3-0001-0002-0003-000000000004"


def telling() -> Report:
    """A report that holds whatever could name a node, wherever it could stand."""
    finding = Finding(
        id="torch_version.metadata",
        status="warn",
        message="torch 2.13.0 of /home/jane.doe/.local/lib on gpu-node-17.example.org",
        observed={f"MIG-{INSTANCE}": [f"GPU-{GPU}", "/home/jane.doe/lib"]},
    )
    printed = "gpu-node-17 NCCL INFO 10.12.0.7:4711, cuDNN 9.19.0.56"
    one = result("torch_version", "cuda:0", "warn", findings=(finding,), log_tail=printed)
    seen = {"uuid": GPU, "pci": "0000:0f:00.0", "cudnn": "9.19.0.56", "path": "/opt/venv/lib"}
    two = result("autograd", "cuda:0", observation=seen)
    device = Device(name="cuda:0", type="cuda", uuid=f"GPU-{GPU}", pci_bus_id="0000:0f:00.0")
    made = report([one, two], devices=(device,))
    return made.model_copy(update={"host": "gpu-node-17", "run_id": "5" * 32})


def test_what_identifies_a_node_is_replaced_and_the_rest_kept() -> None:
    """Host, people and UUIDs go, alike everywhere; versions, addresses and libraries stay."""
    text = to_json(anonymous(telling()))

    for secret in ("node-17", "jane", GPU, INSTANCE, INSTANCE.lower(), "10.12.0.7", "5" * 32):
        assert secret not in text, secret
    for needed in ("0000:0f:00.0", "/opt/venv/lib", "/home/user/lib", '"9.19.0.56"'):
        assert needed in text, needed
    uuid = str(anonymous(telling()).devices[0].uuid)
    assert uuid.startswith("GPU-00000000-0000-0000-0000-00000000000")
    assert text.count(uuid.removeprefix("GPU-")) == 3  # the device, a message, an observation


def test_a_host_with_a_short_name_is_not_found_inside_words() -> None:
    """A machine called `vm` must not cut `vm` out of the middle of texts."""
    short = telling().model_copy(update={"host": "vm"})

    assert anonymous(short).host == "node"
    assert "gpu-node-17" in to_json(anonymous(short))


def record(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """One `check --record`, of one probe."""
    return subprocess.run(
        [sys.executable, "-m", "validator", "check", "--probe", "numpy_sharing", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "NODE_NAME": "rack-7-node-3", "PYTHONPATH": str(ROOT)},
        cwd=folder,
    )


@pytest.mark.torch
def test_check_records_what_it_has_seen(tmp_path: Path) -> None:
    """The file holds the observation of a pass; stdout stays what it was without."""
    done = record(tmp_path, "--record", "seen.json")

    assert done.returncode == 0, done.stderr
    assert "rack-7-node-3" in done.stdout
    recorded = Report.model_validate_json((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert recorded.host == "node"
    (only,) = recorded.results
    assert only.observation is not None
    assert len(only.observation) >= len(BY_NAME["numpy_sharing"].checks)


def test_a_recording_that_cannot_be_written_or_made_is_told_before_the_run(tmp_path: Path) -> None:
    """A folder that is not there, and a report of somebody else's run."""
    nowhere = record(tmp_path, "--record", "absent/seen.json")
    elsewhere = record(tmp_path, "--record", "seen.json", "--max-age", "5m")

    assert (nowhere.returncode, elsewhere.returncode) == (2, 2)
    assert "--record absent/seen.json: there is no directory absent" in nowhere.stderr
    assert "--record is for a run of its own" in elsewhere.stderr
    assert list(tmp_path.iterdir()) == []
