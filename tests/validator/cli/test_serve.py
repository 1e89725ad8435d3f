"""`serve`: the command becomes the daemon."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.validator.cli.fakes import Call
from validator.cli import early
from validator.settings.model import Settings

pytestmark = pytest.mark.slow


def test_serve_starts_itself_anew(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command line again, with its checked arguments in the environment."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "gpu-validator", "serve", "..."])
    monkeypatch.delenv(early.SERVE, raising=False)
    given: list[Any] = []

    def execv(path: str, argv: list[str]) -> None:
        given.extend([path, argv, json.loads(os.environ.pop(early.SERVE))])
        raise KeyboardInterrupt  # it does not come back

    monkeypatch.setattr(os, "execv", execv)
    code = call("serve", "--profile", "deep", "--web.listen-address", "[::1]:1")

    assert code == 130
    assert given == [
        sys.executable,
        ["python", "gpu-validator", "serve", "..."],
        {
            "config_file": None,
            "flags": {"run": {"profile": "deep"}, "web": {"listen_address": ["[::1]:1"]}},
        },
    ]


def test_serve_becomes_the_daemon(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second start reads the settings and serves; the variable is gone by then."""
    file = tmp_path / "settings.yaml"
    file.write_text("run: {threads: 2}", encoding="utf-8")
    served: list[Any] = []

    def serve(settings: Settings, config_file: Path | None, flags: Mapping[str, Any]) -> int:
        served.extend([settings.run.threads, settings.run.profile, config_file, flags])
        return 7 if early.SERVE not in os.environ else 8

    daemon = ModuleType("validator.service.server")
    daemon.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "validator.service.server", daemon)
    flags = {"run": {"profile": "deep"}}
    monkeypatch.setenv(early.SERVE, json.dumps({"config_file": str(file), "flags": flags}))

    assert call("serve") == 7
    assert served == [2, "deep", file, flags]


def test_the_daemon_s_process_is_light() -> None:
    """Its process has seen nothing of what parses and draws, nor what it is to judge."""
    program = (
        "import sys, types\n"
        "daemon = types.ModuleType('validator.service.server')\n"
        "daemon.serve = lambda *_: print(*{'typer', 'rich', 'torch', 'numpy'} & set(sys.modules))\n"
        "sys.modules['validator.service.server'] = daemon\n"
        "from validator.cli.main import main\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, early.SERVE: json.dumps({"config_file": None, "flags": {}})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (0, "\n"), ended.stderr


def test_serve_with_a_file_gone_bad(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that changed between the two reads is told like any other."""
    monkeypatch.setenv(early.SERVE, json.dumps({"config_file": "/none.yaml", "flags": {}}))

    assert call("serve") == 2
    assert "/none.yaml: cannot be read" in capsys.readouterr().err
