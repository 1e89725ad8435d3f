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
    ("check", "--verbse"): "unknown option --verbse; did you mean --verbose?",
    ("serve", "--verbose"): "unknown option --verbose; see gpu-validator serve --help",
    ("serve", "-v"): "unknown option -v; see gpu-validator serve --help",
    (
        "check",
        "--config",
        "x",
    ): "unknown option --config; did you mean --config.file or",
    ("check", "-p", "autograd"): "unknown option -p; did you mean --profile or --probe?",
    ("check", "-probe", "autograd"): "unknown option -probe; did you mean --probe?",
    ("check", "--json"): "unknown option --json; did you mean --output json?",
    ("check", "--quick"): "unknown option --quick; did you mean --profile quick?",
    ("check", "quick"): "unexpected argument 'quick'; did you mean --profile quick?",
    ("check", "autograd", "x"): "unexpected argument 'autograd'; did you mean --probe autograd?",
    ("check", "-V"): "unknown option -V; did you mean gpu-validator -V?",
    ("check", "--version"): "unknown option --version; did you mean gpu-validator --version?",
    ("-q", "check"): "unknown option -q; write it after the command: gpu-validator check -q",
    ("--probe", "autograd", "check"): "after the command: gpu-validator check --probe",
    ("help",): "unknown command 'help'; did you mean gpu-validator --help?",
    ("version",): "unknown command 'version'; did you mean gpu-validator --version?",
    ("run",): "unknown command 'run'; known: check, burn, serve",
    ("check", "--probe", "autograd,tensor_opps"): "'tensor_opps'; did you mean 'tensor_ops'?",
    ("check", "--probe", "autograd,"): "--probe: 'autograd,' has an empty name; give one, or sev",
    ("check", "--probe", ""): "--probe: '' has an empty name",
    ("check", "--no-probe", "autograd, matmull"): "'matmull'; did you mean 'matmul'?",
    ("check", "--device", ""): "--device: '' has an empty name",
    ("check", "--device", "gpu0"): "--device: 'gpu0' is no device's name; did you mean 'cuda:0'?",
    (
        "check",
        "--device",
        "cpu,cud:1",
    ): "--device: 'cud:1' is no device's name; did you mean 'cud",
    ("burn", "--device", "0"): "--device: '0' is no device's name; did you mean 'cuda:0'?",
    ("selftest", "--device", "cpuu"): "--device: 'cpuu' is no device's name; did you mean 'cpu'?",
    (
        "selftest",
        "--fault",
        "zeros.garbage,zeros.grabage",
    ): "did you mean 'zeros.garbage'",
    ("check", "-o", "jsn"): "--output: unknown value 'jsn'; did you mean 'json'?",
    (
        "check",
        "-o",
        "a.xml",
    ): "'a.xml' is no form; known: text, json, junit, prom; for a file",
    ("list", "-o", "a.json"): "--output: 'a.json' is no form; known: text, json",
    ("burn", "-vq"): "--quiet and --verbose cannot go together",
    ("check", "-qv"): "--quiet and --verbose cannot go together",
    ("check", "--record"): "option '--record' requires an argument; see gpu-validator check --help",
    ("check", "--max-age", "soon"): "--max-age: 'soon' is no duration; write seconds (90) or 500ms",
    ("check", "--max-age", "0"): "--max-age: '0' is no time above 0, and of a year at most; write",
    ("check", "--watch", "soon"): "--watch: 'soon' is no duration; write seconds (90) or 500ms",
    ("check", "--watch", "0.5"): "--watch: 0.5 s is less than 1 s; write 10s, 5m or 1h",
    ("check", "--watch", "9s", "-o", "json"): "it cannot go with --output json; for reports again",
    ("check", "--watch", "9s", "--output-file", "x"): "it cannot go with --output-file; for",
    ("check", "--watch", "9s", "--record", "x"): "it cannot go with --record; for reports",
    ("check", "--record", ""): "--record: '' is no path; write one, or leave --record out",
    ("burn", "--output-file", " "): "--output-file: ' ' is no path; write one, or",
    ("selftest", "--output-file", ""): "--output-file: '' is no path; write one, or",
    ("serve", "--config.file", ""): "--config.file: '' is no path; write one, or",
    ("healthcheck", "--ready-file", ""): "--ready-file: '' is no path; write one, or",
    ("condition", "--account", ""): "--account: '' is no path; write one, or leave",
    ("check", "--record", "/none/x"): "--record /none/x: there is no directory /none",
    ("check", "--probe", "autogard"): "--probe: unknown probe 'autogard'; did you mean 'autograd'?",
    ("check", "--no-probe", "xyzzy"): "--no-probe: unknown probe 'xyzzy'; known: torch_version",
    ("check", "--profile", "quik"): "--profile: unknown value 'quik'; did you mean 'quick'?",
    ("check", "--output", "jsn"): "--output: unknown value 'jsn'; did you mean 'json'?",
    ("check", "--exit-style", "nagois"): "--exit-style: unknown value 'nagois'; did you mean",
    ("check", "--timeout", "soon"): "--timeout: 'soon' is no duration; write seconds (90) or",
    ("check", "--timeout", "0"): "--timeout: '0' is no time above 0, and of a year at most; write",
    ("check", "--log.level", "loud"): "--log.level: 'loud' is not one of debug",
    (
        "burn",
        "--log.format",
        "jso",
    ): "--log.format: 'jso' is not one of text, json; did you mean",
    (
        "selftest",
        "--timeout",
        "9999999d",
    ): "--timeout: '9999999d' is no time above 0, and",
    ("check", "--timeout", "9999999d"): "--timeout: '9999999d' is no time above 0, and of a year",
    ("check", "extra"): "unexpected extra argument",
    (
        "check",
        "--config.file",
        "/none.yaml",
    ): "--config.file /none.yaml: cannot be read: No",
    ("check", "--output-file", "/none/x"): "--output-file /none/x: there is no directory /none",
    ("check", "--output-file", "/"): "--output-file /: is a directory",
    ("check", "--probe", "autograd", "--no-probe", "autograd"): "no probe is left to run",
    ("serve", "--web.listen-address", ":1,8790"): "--web.listen-address: '8790' is no address; wr",
    ("serve", "--bogus"): "unknown option --bogus; see gpu-validator serve --help",
    ("list", "--output", "junit"): "--output: unknown value 'junit'; known: text, json",
    ("explain",): "missing argument 'PROBE|CHECK'; see gpu-validator explain --help",
    ("explain", "autogard"): "no probe is named 'autogard'; did you mean 'autograd'?",
    ("healthcheck", "--url", "https://x"): "--url: 'https://x' is no address such as http://",
    ("healthcheck", "--url", "http://x:y"): "--url: 'http://x:y' is no address such as http://",
    ("healthcheck", "--url", "http://"): "--url: 'http://' is no address such as http://",
    ("healthcheck", "--url", "http://x/readyz", "--ready"): "write --url without /readyz",
    ("healthcheck", "--ready", "--ready-file", "x"): "it cannot go with --ready",
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


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("check --probe auto", ["autograd"]),
        ("check --probe matmul,auto", ["matmul,autograd"]),
        ("check -o j", ["json", "junit"]),
        ("check --log.level w", ["warning"]),
    ],
)
def test_shell_completion(typed: str, offered: list[str]) -> None:
    """The shell is told of values, in a list of its last member."""
    words = {"COMP_WORDS": f"gpu-validator {typed}", "COMP_CWORD": "3"}
    asking = {"_GPU_VALIDATOR_COMPLETE": "complete_bash", **words}
    ended = command(env={**os.environ, **asking})

    assert ended.stdout.split() == offered


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
