"""What the command line refuses, and how its options are declared."""

import ast
import os

import pytest
import typer

from tests.validator.cli.fakes import ROOT, Call, Worker, command
from validator.cli import app
from validator.cli.app import COMMANDS

pytestmark = pytest.mark.slow

WRONG_USAGE = {
    (): "no command; use one of check, burn, serve, list",
    ("chek",): "unknown command 'chek'; did you mean 'check'?",
    ("xyzzy",): "unknown command 'xyzzy'; known: check, burn, serve",
    ("check", "--prbe", "x"): "unknown option --prbe; did you mean --probe?",
    ("check", "--zzz"): "unknown option --zzz; see gpu-validator check --help",
    ("check", "--config.fil", "x"): "unknown option --config.fil; did you mean --config.file?",
    ("check", "--probe"): "option '--probe' requires an argument; see gpu-validator check --help",
    ("check", "--probe", "autogard"): "--probe: unknown probe 'autogard'; did you mean 'autograd'?",
    ("check", "--no-probe", "xyzzy"): "--no-probe: unknown probe 'xyzzy'; known: torch_version",
    ("check", "--profile", "quik"): "--profile: unknown value 'quik'; did you mean 'quick'?",
    ("check", "--output", "jsn"): "--output: unknown value 'jsn'; did you mean 'json'?",
    ("check", "--exit-style", "nagois"): "--exit-style: unknown value 'nagois'; did you mean",
    ("check", "--timeout", "soon"): "run.timeout: 'soon' is no duration",
    ("check", "--timeout", "0"): "run.timeout: Input should be greater than 0",
    ("check", "--log.level", "loud"): "log.level: 'loud' is not one of debug",
    (
        "selftest",
        "--timeout",
        "9999999d",
    ): "--timeout: '9999999d' is no time above 0, and",
    ("check", "--timeout", "9999999d"): "run.timeout: 8.64e+11 s is longer than a year",
    ("check", "extra"): "unexpected extra argument",
    ("check", "--config.file", "/none.yaml"): "/none.yaml: cannot be read: No such file",
    ("check", "--output-file", "/none/x"): "--output-file /none/x: there is no directory /none",
    ("check", "--output-file", "/"): "--output-file /: is a directory",
    ("check", "--probe", "autograd", "--no-probe", "autograd"): "no probe is left to run",
    ("serve", "--web.listen-address", "8790"): "web.listen_address: '8790' is no address",
    ("serve", "--bogus"): "unknown option --bogus; see gpu-validator serve --help",
    ("list", "--output", "junit"): "--output: unknown value 'junit'; known: text, json",
    ("explain",): "missing argument 'PROBE|CHECK'; see gpu-validator explain --help",
    ("explain", "autogard"): "no probe is named 'autogard'; did you mean 'autograd'?",
    ("healthcheck", "--url", "https://x"): "--url: 'https://x' is no address such as http://",
    ("healthcheck", "--url", "http://x:y"): "--url: 'http://x:y' is no address such as http://",
    ("healthcheck", "--url", "http://"): "--url: 'http://' is no address such as http://",
}


@pytest.mark.parametrize("argv", WRONG_USAGE, ids=" ".join)
def test_wrong_usage(
    argv: tuple[str, ...], call: Call, workers: list[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line with the nearest right name, and no worker left behind."""
    code = call(*argv)
    told = capsys.readouterr()

    assert code == 2
    assert told.err.startswith("gpu-validator: error: ")
    assert WRONG_USAGE[argv] in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert all(worker.killed for worker in workers)


def test_shell_completion() -> None:
    """The shell is told of probes."""
    words = {"COMP_WORDS": "gpu-validator check --probe auto", "COMP_CWORD": "3"}
    asking = {"_GPU_VALIDATOR_COMPLETE": "complete_bash", **words}
    ended = command(env={**os.environ, **asking})

    assert ended.stdout.split() == ["autograd"]


def declared_options() -> list[ast.Call]:
    """Every declaration of an option in our source."""
    return [
        node
        for file in (ROOT / "validator").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option"
    ]


def test_every_option_has_its_name_spelled_out() -> None:
    """A name that typer makes up from the parameter is another one in another typer."""
    declared = declared_options()
    unnamed = [
        f"line {call.lineno}: {ast.unparse(call)}"
        for call in declared
        if not (
            call.args
            and isinstance(call.args[0], ast.Constant)
            and str(call.args[0].value).startswith("--")
        )
    ]

    assert len(declared) > 20
    assert unnamed == []


def test_an_option_is_declared_once() -> None:
    """What several commands take has one declaration, so that it cannot mean two things."""
    names = [str(call.args[0].value) for call in declared_options()]  # type: ignore[attr-defined]

    assert sorted(names) == sorted(set(names))


def test_the_parser_knows_the_names_that_are_declared() -> None:
    """Said of the installed typer: each command takes the options that the source names."""
    known = {
        name
        for command in COMMANDS
        for option in typer.main.get_command(app.parser(())).commands[command].params  # type: ignore[attr-defined]
        for name in option.opts
    }
    declared = {str(call.args[0].value) for call in declared_options()}  # type: ignore[attr-defined]

    assert declared - known == {"--version"}
    assert {"--device", "--probe", "--profile", "--output", "--timeout", "--url"} <= known
