"""What the image, the units and the manifest set for everybody, a settings file overrules."""

import os
import re
from pathlib import Path

import pytest

from validator.settings.loading import load

ROOT = Path(__file__).parents[2]

SOURCES = (
    "Dockerfile",
    "deploy/systemd/gpu-validator.service",
    "deploy/systemd/gpu-validator-check.service",
    "deploy/kubernetes/base/daemonset.yaml",
)

OTHERS = """
expect: {gpus: 8}
files: {failed: /elsewhere/failed.json}
web: {unix_socket: /elsewhere/api.sock, unix_socket_mode: '0666'}
"""


@pytest.mark.parametrize("source", SOURCES)
def test_a_settings_file_overrules_what_is_set_for_everybody(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a path that somebody writes there would be ignored in silence."""
    for variable in [name for name in os.environ if name.upper().startswith("GPU_VALIDATOR_")]:
        monkeypatch.delenv(variable)
    text = (ROOT / source).read_text()
    found = re.findall(r"(GPU_VALIDATOR_\w+__\w+)(?:=|\s+value: )\"?([^\s\"]+)", text)
    assert found
    for name, value in found:
        monkeypatch.setenv(name, value.replace("%S", "/var/lib"))
    file = tmp_path / "settings.yaml"
    file.write_text(OTHERS)
    silent, told = load(), load(file)

    assert silent.expect.gpus == 1
    assert told.expect.gpus == 8
    assert str(told.files.failed) == "/elsewhere/failed.json"
    assert told.web.unix_socket == "/elsewhere/api.sock"
    assert told.web.unix_socket_mode == "0666"
