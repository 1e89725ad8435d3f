"""`--help` of every command: whole sentences, examples that work, and the exit codes."""

import functools
import re
import shlex

import pytest
import typer

from tests.validator.cli.fakes import Call
from validator.cli.app import COMMANDS, parser

pytestmark = pytest.mark.slow


@functools.cache
def commands() -> dict[str, object]:
    """The parser's commands by name."""
    return dict(typer.main.get_command(parser(())).commands)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_in_sentences(name: str) -> None:
    """From a capital letter to a full stop."""
    command = commands()[name]
    texts = {param.opts[0]: param.help for param in command.params if hasattr(param, "help")}  # type: ignore[attr-defined]
    help_text = command.help  # type: ignore[attr-defined]

    assert re.match(r"[A-Z].*\.$", help_text.strip(), re.DOTALL), help_text
    for option, text in texts.items():
        assert re.match(r"[A-Z].*\.$", text or "", re.DOTALL), f"{name} {option}: {text!r}"


@pytest.mark.parametrize("name", COMMANDS)
def test_its_examples_work_and_its_codes_are_told(
    name: str, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each example is parsed by the command itself; no line is wider than a terminal."""
    assert call(name, "--help") == 0
    told = capsys.readouterr().out
    examples = re.findall(r"^ +gpu-validator (.*)$", told, re.MULTILINE)
    codes = re.findall(r"^ +(\d[\d+n]*) +[A-Z].*\.$", told, re.MULTILINE)

    assert examples
    for example in examples:
        argv = shlex.split(example.partition(" > ")[0], comments=True)
        assert argv[0] == name
        assert callable(parser(argv)(argv, standalone_mode=False)), example
    assert {"0", "2"} <= set(codes)
    assert ("1" in codes) == (name in {"check", "burn", "selftest", "healthcheck", "condition"})
    assert [line for line in told.splitlines() if len(line) > 80] == []


def test_the_help_of_all(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command in a line that is not cut; `-h` is the same."""
    assert call("--help") == 0
    told = capsys.readouterr().out
    assert call("-h") == 0

    assert capsys.readouterr().out == told
    assert "..." not in told.replace("[ARGS]...", "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].*$", told, re.MULTILINE)
    assert "Exit codes:" in told
    assert [line for line in told.splitlines() if len(line) > 80] == []
    assert "-V, --version" in told or "--version, -V" in told


def test_version(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """`-V` as `--version`."""
    assert call("-V") == 0
    short = capsys.readouterr().out
    assert call("--version") == 0

    assert short == capsys.readouterr().out
