"""Dockerfile, compose files and scrape configuration: what can be held without an engine."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from validator.settings.model import Settings, Web
from validator.settings.values import host_port

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = ("docker-compose.yml", "docker-compose.cpu.yml")


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


def _port() -> int:
    return host_port(Web().listen_address[0])[1]


def _instructions() -> list[str]:
    """The Dockerfile without comments, a continued line as one."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def _default(name: str) -> str:
    return next(
        line.split("=", 1)[1] for line in _instructions() if line.startswith(f"ARG {name}=")
    )


def test_no_index_is_wired_into_the_image() -> None:
    """An index that cannot be reached costs minutes of retries: pip's own settings decide."""
    addresses = [line for line in _instructions() if "://" in line and "LABEL" not in line]

    assert addresses == []
    assert _default("TORCH_INDEX") == ""


def test_any_builder_takes_the_dockerfile() -> None:
    """The classic one has no mounts, heredocs, links or modes; `# syntax=` asks a registry."""
    assert not re.search(r"--mount|<<|COPY --(link|chmod)|^# *syntax", DOCKERFILE, re.MULTILINE)


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    """Kubernetes' runAsNonRoot refuses a name, which it cannot look up."""
    last_user = [line for line in _instructions() if line.startswith("USER ")][-1]

    assert last_user == "USER ${USER_ID}"
    assert int(_default("USER_ID")) > 0


def test_the_image_expects_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU node, none at all must be a fail; the setting has to be one that we read."""
    variable, value = re.findall(r"(GPU_VALIDATOR_\w+)=(\S+)", DOCKERFILE)[0]
    monkeypatch.setenv(variable, value)

    assert Settings().expect.gpus == 1


def test_the_engine_stops_the_image_by_the_signal_that_the_daemon_knows() -> None:
    """A base image's STOPSIGNAL, SIGQUIT say, is inherited and would end it without a word."""
    assert "STOPSIGNAL SIGTERM" in _instructions()


def test_the_exposed_port_is_the_default_one() -> None:
    """Of the image, both compose files and the scrape configuration."""
    scrape = _load("deploy/prometheus/prometheus.yml")["scrape_configs"][0]
    ports = _load("docker-compose.cpu.yml")["services"]["validator"]["ports"]

    assert f"EXPOSE {_port()}" in _instructions()
    assert ports == [f"127.0.0.1:{_port()}:{_port()}"]
    assert scrape["static_configs"][0]["targets"] == [f"validator:{_port()}"]


@pytest.mark.parametrize("name", COMPOSE)
def test_old_and_new_compose_take_the_file(name: str) -> None:
    """1.29 refuses `name` and `include`; the plugin warns of `version`."""
    assert set(_load(name)) == {"services", "volumes"}
    assert not re.search(r"\$\{[^}]*\$\{", (ROOT / name).read_text()), "1.29 nests no defaults"


@pytest.mark.parametrize("service", ["validator", "prometheus"])
def test_services_are_hardened(service: str) -> None:
    """Read-only, without capabilities, without a way to gain any."""
    settings = _load("docker-compose.cpu.yml")["services"][service]

    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in settings["ports"])
    assert _load("docker-compose.yml")["services"][service]["extends"] == {
        "file": "docker-compose.cpu.yml",
        "service": service,
    }


def test_the_gpu_file_reserves_all_gpus_and_the_cpu_file_none() -> None:
    """A list cannot be taken back by an override, so the GPU file builds on the other."""
    gpu = _load("docker-compose.yml")["services"]["validator"]
    cpu = _load("docker-compose.cpu.yml")["services"]["validator"]

    assert gpu["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert gpu["environment"] == {"GPU_VALIDATOR_EXPECT__GPUS": "${GPUS:-1}"}
    assert "deploy" not in cpu
    assert cpu["environment"] == {"GPU_VALIDATOR_EXPECT__GPUS": "0"}


def test_compose_builds_what_the_dockerfile_builds_by_default() -> None:
    """Its defaults are written twice, since 1.29 passes an unset argument as empty."""
    arguments = _load("docker-compose.cpu.yml")["services"]["validator"]["build"]["args"]
    base = _default("BASE_IMAGE").replace("${PYTHON_VERSION}", _default("PYTHON_VERSION"))

    assert arguments == {
        "BASE_IMAGE": f"${{BASE_IMAGE:-{base}}}",
        "TORCH": f"${{TORCH-{_default('TORCH')}}}",
        "TORCH_INDEX": "${TORCH_INDEX:-}",
    }


def test_makefile_and_image_pin_one_torch() -> None:
    """`make validate` and the image judge the same release."""
    script = (ROOT / "tools" / "environment.sh").read_text()

    assert f"torch=${{TORCH-{_default('TORCH')}}}" in script


def test_prometheus_takes_the_configuration() -> None:
    """Judged by Prometheus' own tool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here")
    result = subprocess.run(
        [promtool, "check", "config", str(ROOT / "deploy/prometheus/prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_what_is_compiled_at_first_use_has_a_place() -> None:
    """Under `--read-only --tmpfs /tmp` and any uid; folders that a base image names are kept."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert "XDG_CACHE_HOME=${XDG_CACHE_HOME:-/tmp}" in text
    assert "CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-/tmp/nv}" in text
