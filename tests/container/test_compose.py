"""The compose file on a real engine: Prometheus scrapes the validator, and an alert fires."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("VALIDATOR_TEST_IMAGE", "gpu-env-validator:local")
PROMETHEUS = "http://127.0.0.1:9090"
SERVICES = ("validator", "prometheus")

pytestmark = [pytest.mark.container, pytest.mark.timeout(300)]


def compose(file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one command of compose on a project of the test's own."""
    command = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return subprocess.run(
        [*command, "-p", f"gpu-validator-test-{os.getpid()}", "-f", str(file), *arguments],
        env={**os.environ, "IMAGE": IMAGE},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ask(path: str) -> Any:
    """The `data` of one of Prometheus' answers; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"{PROMETHEUS}{path}", timeout=5) as answer:  # noqa: S310 - http
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def until(found: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """What comes of a question within a time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.5)
    raise AssertionError(f"no {what} within {seconds:.0f} s")


@pytest.fixture
def running() -> Iterator[None]:
    """Validator and Prometheus, of a machine whose promise of a GPU is not kept."""
    for image in (IMAGE, "prom/prometheus:v3.5.0"):
        try:
            seen = subprocess.run(
                ["docker", "image", "inspect", image], capture_output=True, timeout=10, check=False
            )
        except (FileNotFoundError, subprocess.TimeoutExpired):
            pytest.skip("no container engine answers")
        if seen.returncode:
            pytest.skip(f"no image {image}")
    text = (ROOT / "docker-compose.cpu.yml").read_text(encoding="utf-8")
    sick = text.replace('GPU_VALIDATOR_EXPECT__GPUS: "0"', 'GPU_VALIDATOR_EXPECT__GPUS: "1"')
    assert sick != text
    file = ROOT / f".compose-test-{os.getpid()}.yml"  # paths in it are relative to its folder
    file.write_text(sick, encoding="utf-8")
    try:
        up = compose(file, "up", "-d", "--no-build", *SERVICES)
        assert up.returncode == 0, up.stderr
        yield
    finally:
        compose(file, "down", "--volumes")
        file.unlink()


def test_prometheus_scrapes_the_validator_and_its_alert_fires(running: None) -> None:
    """Target up, all rules sound, and a failed check is an alert."""

    def target_is_up() -> bool:
        targets = (ask("/api/v1/targets") or {}).get("activeTargets", [])
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def firing() -> set[str]:
        alerts = (ask("/api/v1/alerts") or {}).get("alerts", [])
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    until(target_is_up, "target that is up")
    fired = until(firing, "alert that fires")
    rules = [rule for group in ask("/api/v1/rules")["groups"] for rule in group["rules"]]

    assert "GpuValidatorCheckFailed" in fired
    assert len(rules) > 10
    assert {rule["health"] for rule in rules} == {"ok"}
