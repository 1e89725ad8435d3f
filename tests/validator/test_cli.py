"""The command line: what it refuses, what it writes where, and the exit code in every case."""

import ast
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from tests.validator import reports
from validator import __version__, profiles
from validator.cli import app, early, healthcheck, one_run
from validator.cli import main as cli
from validator.cli.app import COMMANDS
from validator.engine.plan import Event, Plan, make_plan
from validator.engine.spawn import MARKER, CannotStartError
from validator.engine.stopping import Stop
from validator.report import Report
from validator.service import ask
from validator.settings import Settings

pytestmark = pytest.mark.slow

SOUND = reports.sound()
SICK = reports.sick()


class Worker:
    """Stands for a worker process."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> bool:
        """Remember it."""
        self.killed = True
        return True


class Runner:
    """Stands for the runner: gives the report it was told to give."""

    answer: Report | Exception = SOUND
    signals: tuple[signal.Signals, ...] = ()
    seen: tuple[Plan, Settings] | None = None
    worker: Any = None

    def __init__(self, worker: Any = None) -> None:
        type(self).worker = worker

    async def run(
        self, plan: Plan, settings: Settings, on_event: Callable[[Event], None], stop: Stop
    ) -> Report:
        """Tell of the run as a real one does."""
        type(self).seen = (plan, settings)
        on_event(Event("importing"))
        on_event(Event("surveyed", planned=(("autograd", "cpu"),)))
        on_event(Event("started", "autograd", "cpu"))
        for number in self.signals:
            stop.take(number)
        if isinstance(self.answer, Exception):
            raise self.answer
        on_event(Event("finished", "autograd", "cpu", result=self.answer.results[-1]))
        return self.answer


Call = Callable[..., int]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The workers that were started early; none is real."""
    started: list[Worker] = []

    def start() -> Worker:
        started.append(Worker())
        return started[-1]

    monkeypatch.setattr(early, "start_worker", start)
    return started


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, workers: list[Worker]) -> Call:
    """Run the command in this process, with a fake runner."""
    for name, value in {"answer": SOUND, "seen": None, "worker": None, "signals": ()}.items():
        monkeypatch.setattr(Runner, name, value)
    for variable in list(os.environ):
        if variable.startswith("GPU_VALIDATOR_"):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(one_run, "Runner", Runner)

    def run(*argv: str, answer: Report | Exception = SOUND) -> int:
        monkeypatch.setattr(Runner, "answer", answer)
        monkeypatch.setattr(sys, "argv", ["gpu-validator", *argv])
        return cli.main()

    return run


def command(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "validator", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
        **options,
    )


WRONG_USAGE = {
    (): "no command; use one of check, serve, list",
    ("chek",): "unknown command 'chek'; did you mean 'check'?",
    ("xyzzy",): "unknown command 'xyzzy'; known: check, serve",
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


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--exit-style", "nagios"], 3),
        (["--exit-style=nagios"], 3),
        (["--fail-open"], 0),
        (["--fail-open", "--exit-style", "nagios"], 0),
        ([], 2),
    ],
)
def test_not_knowing_has_its_code_in_each_style(options: list[str], code: int, call: Call) -> None:
    """For nagios 2 is critical; a prolog that fails open drains nobody for a typing error."""
    assert call("check", "--bogus", *options) == code
    assert call("check", *options, answer=RuntimeError("ours")) == code
    assert call("check", "--timeout", "x", *options) == code


def test_fail_open_is_of_check_alone(call: Call) -> None:
    """No other command knows it."""
    assert call("list", "--fail-open") == 2


@pytest.mark.parametrize(
    ("answer", "options", "code"),
    [
        (SOUND, [], 0),
        (SOUND, ["--strict"], 1),
        (SOUND, ["--strict", "--exit-style", "nagios"], 2),
        (SICK, [], 1),
        (SICK, ["--exit-style", "nagios"], 2),
        (SICK, ["--fail-open"], 1),
        (reports.report([]), [], 2),
        (reports.report([]), ["--fail-open"], 0),
        (reports.report([]), ["--exit-style", "nagios"], 3),
    ],
)
def test_the_verdict_is_the_exit_code(
    answer: Report, options: list[str], code: int, call: Call
) -> None:
    """What the report says is what the caller gets."""
    assert call("check", *options, answer=answer) == code


def test_json_alone_on_stdout(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """One document, and nothing else anywhere."""
    call("check", "--output", "json", answer=SICK)
    told = capsys.readouterr()

    assert Report.model_validate_json(told.out).model_dump_json() == SICK.model_dump_json()
    assert told.err == ""


def test_text_and_junit(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """The other two forms."""
    call("check")
    text = capsys.readouterr().out
    call("check", "--quiet")
    quiet = capsys.readouterr().out
    call("check", "--output", "junit")

    assert text.endswith(quiet)
    assert "✓ pass    0.25 s  12 checks passed" in text
    assert quiet.startswith("✓ pass: 2 probes")
    assert capsys.readouterr().out.startswith("<?xml")


def test_flags_reach_the_run(call: Call, tmp_path: Path) -> None:
    """Each flag ends in the settings or in the plan, before the file's values."""
    file = tmp_path / "settings.yaml"
    file.write_text("run: {profile: instant, timeout: 9, threads: 3}", encoding="utf-8")
    argv = ["check", "--config.file", str(file), "--profile", "deep", "--timeout", "1m30s"]
    argv += ["--device", "cuda:0", "--device", "cpu", "--no-probe", "autograd"]
    code = call(*argv, "--no-probe", "tensor_ops")
    assert Runner.seen is not None
    plan, settings = Runner.seen

    assert code == 0
    assert (settings.run.profile, settings.run.timeout, settings.run.threads) == ("deep", 90, 3)
    assert settings.run.devices == ("cuda:0", "cpu")
    assert plan.trigger == "cli"
    names = {spec.name for spec in plan.specs}
    assert "train_eval" in names
    assert not names & {"autograd", "tensor_ops"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--profile", "standard"), True),
        (("--profile", "standard", "--quiet", "--output", "json"), True),
        (("--profile", "standard", "--probe", "autograd"), False),
        (("--profile", "quick"), False),
    ],
)
def test_a_profile_that_holds_nothing_more_says_so(
    options: tuple[str, ...],
    told: bool,  # noqa: FBT001 - a table
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on stderr, whatever goes to stdout, and none where probes were named."""
    monkeypatch.setattr(profiles, "empty_profiles", lambda *_: ("instant", "standard", "deep"))
    call("check", *options)
    err = capsys.readouterr().err

    line = "gpu-validator: profile standard holds nothing more than quick yet\n"
    assert err == (line if told else "")


def test_probe_repeats(call: Call) -> None:
    """Those named, in the catalogue's order."""
    call("check", "--probe", "autograd", "--probe", "torch_version")
    assert Runner.seen is not None

    assert [spec.name for spec in Runner.seen[0].specs] == ["torch_version", "autograd"]


def test_config_check(
    call: Call, workers: list[Worker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Says whether the configuration is right, and runs nothing."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("run: {timeout: 5}", encoding="utf-8")
    bad.write_text("run: {timout: 5}", encoding="utf-8")
    codes = [
        call(name, "--config.check", "--config.file", str(file))
        for name in ("check", "serve")
        for file in (good, bad)
    ]

    assert codes == [0, 2, 0, 2]
    assert capsys.readouterr().out == "the configuration is valid\n" * 2
    assert Runner.seen is None
    assert workers == []


def test_config_check_looks_at_the_schedule_too(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron expression that names no time is refused before a daemon starts with it."""
    file = tmp_path / "settings.yaml"
    file.write_text('schedule: {autograd: {cron: "99 * * * *"}}', encoding="utf-8")

    assert call("serve", "--config.check", "--config.file", str(file)) == 2
    assert "schedule.autograd.cron" in capsys.readouterr().err


def test_the_early_worker_is_handed_over(call: Call, workers: list[Worker]) -> None:
    """The run gets the worker that was started first, and nobody else ends it."""
    call("check")

    assert [Runner.worker] == workers
    assert not workers[0].killed


@pytest.mark.parametrize("argv", [["list"], ["schema"], ["check", "--help"], ["--version"]])
def test_no_worker_where_nothing_runs(
    argv: list[str], call: Call, workers: list[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    """Importing torch for a help text would be waste."""
    assert call(*argv) == 0
    assert workers == []
    assert capsys.readouterr().out


def test_a_worker_that_cannot_start_is_the_run_s_matter(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run tries again, and reports it."""

    def refuse() -> None:
        raise CannotStartError("no memory")

    monkeypatch.setattr(early, "start_worker", refuse)

    assert call("check") == 0
    assert Runner.seen is not None
    assert Runner.worker is None


def test_an_internal_error_is_one_line(call: Call, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, never the 1 that drains a node; the traceback only when asked for."""
    code = call("check", answer=RuntimeError("ours\nand more"))
    told = capfd.readouterr().err
    call("check", "--log.level", "debug", answer=RuntimeError("ours"))
    debugged = capfd.readouterr().err

    assert code == 2
    assert told.startswith("gpu-validator: internal error: RuntimeError: ours and more (a bug")
    assert told.count("\n") == 1
    assert "Traceback" in debugged
    assert "event=started" in debugged


def test_debug_from_the_environment(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable works as the flag does."""
    monkeypatch.setenv("GPU_VALIDATOR_LOG__LEVEL", "debug")
    call("check", answer=RuntimeError("ours"))

    assert "Traceback" in capsys.readouterr().err


def test_a_signal_is_the_exit_code_whatever_was_decided(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 + SIGTERM, with the report; --fail-open and --strict turn nothing into a verdict."""
    monkeypatch.setattr(Runner, "signals", (signal.SIGTERM,))
    codes = [
        call("check", "--output", "json", *options, answer=answer)
        for answer in (SOUND, SICK)
        for options in ([], ["--strict"], ["--fail-open"])
    ]
    told = capsys.readouterr()

    assert codes == [143] * 6
    assert len(told.out.splitlines()) == 6
    assert told.err.splitlines()[-1] == "gpu-validator: stopped by SIGTERM: 6 of 7 decided"


def test_a_second_signal_leaves_the_report_unwritten(
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Whoever asks twice wants the prompt back; the exit code is that of the first signal."""
    monkeypatch.setattr(Runner, "signals", (signal.SIGINT, signal.SIGTERM))
    file = tmp_path / "report"
    code = call("check", "--output", "json", "--output-file", str(file))
    told = capsys.readouterr()

    assert code == 130
    assert told.out == ""
    assert not file.exists()
    assert "stopped by SIGINT, and by a second signal" in told.err


@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_output_file(
    form: str, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The document goes there; people still see the text."""
    file = tmp_path / "report"
    file.write_text("old", encoding="utf-8")
    call("check", "--output", form, "--output-file", str(file), answer=SICK)
    content = file.read_text(encoding="utf-8")

    assert {"text": "gpu-v", "json": '{"sch', "junit": "<?xml"}[form] == content[:5]
    assert "✗ fail  tensor_ops on cuda:0" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


def test_output_file_behind_a_link(call: Call, tmp_path: Path) -> None:
    """A link stays a link."""
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    call("check", "--output", "json", "--output-file", str(link))

    assert link.is_symlink()
    assert file.read_text(encoding="utf-8").startswith("{")


def test_output_file_is_whole_or_as_it_was(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where writing fails the old file stays, no draft does, and nobody hears that all is well."""
    file = tmp_path / "report"
    file.write_text("old", encoding="utf-8")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    codes = [
        call("check", "--output-file", str(file), *options, answer=answer)
        for answer, options in ((SOUND, []), (SICK, []), (SOUND, ["--fail-open"]))
    ]

    assert codes == [2, 1, 0]
    assert "the report could not be written" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_output_file_that_is_a_device(call: Call, tmp_path: Path) -> None:
    """A device or pipe is written to, never replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    call("check", "--output", "json", "--output-file", str(pipe))
    content = os.read(reader, 5)
    os.close(reader)

    assert content == b'{"sch'
    assert pipe.is_fifo()
    assert call("check", "--output-file", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()


def test_output_file_named_dev_stdout(tmp_path: Path) -> None:
    """Where stdout is a file of somebody else's, that file gets the document at its end."""
    log = tmp_path / "log"
    log.write_text("before\n", encoding="utf-8")
    program = "from pathlib import Path; from validator.cli.files import write_whole; "
    program += "write_whole(Path('/dev/stdout'), 'document')"
    inode = log.stat().st_ino
    with log.open("a", encoding="utf-8") as stream:
        subprocess.run([sys.executable, "-c", program], stdout=stream, check=True, timeout=60)

    assert log.read_text(encoding="utf-8") == "before\ndocument"
    assert log.stat().st_ino == inode


def test_no_live_display_off_a_terminal(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR asks for colours in a log, not for a display that redraws itself there."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    call("check")
    told = capsys.readouterr()

    assert told.err == ""
    assert "\x1b[32m" in told.out


def test_version() -> None:
    """Name and version, from a real process."""
    ended = command("--version")

    assert (ended.returncode, ended.stdout) == (0, f"gpu-validator {__version__}\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["list"],
        ["list", "--output", "json"],
        ["explain", "cuda_available"],
        ["explain", "cuda_available.kernel"],
        ["schema"],
    ],
)
def test_no_torch_needed(argv: list[str]) -> None:
    """What the probes promise can be read on a laptop without torch, NumPy or a GPU."""
    program = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'pynvml'): sys.modules[name] = None  # import raises\n"
        f"sys.argv = ['gpu-validator', *{argv}]\n"
        "from validator.cli.main import main\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert "cuda_available" in ended.stdout or argv == ["schema"]
    if argv[0] == "schema" or "json" in argv:
        json.loads(ended.stdout)


def test_nothing_slow_before_the_worker() -> None:
    """The module that starts the worker imports the standard library alone."""
    program = (
        "import sys; before = set(sys.modules); import validator.cli.main; "
        "print(*set(sys.modules) - before)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(ended.stdout.split())
    packages = {name.partition(".")[0] for name in imported}

    assert "validator" in imported
    assert packages - set(sys.stdlib_module_names) == {"validator", "probes"}
    # What both sides need, and imports the standard library alone.
    assert {name for name in imported if name.startswith("probes")} == {"probes", "probes.pidfd"}


def test_a_reader_that_leaves_is_no_error() -> None:
    """A closed pipe: quiet, and 128 + SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "validator", "schema"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (141, b"")


def faked(answer: str, form: str, stdout: int) -> tuple[int, bytes]:
    """Exit code and stderr of a `check` in a process of its own, with a fake runner."""
    program = (
        "import sys\n"
        "from tests.validator import test_cli as fakes\n"
        "from validator.cli import early, main as cli, one_run\n"
        "one_run.Runner, early.start_worker = fakes.Runner, fakes.Worker\n"
        f"fakes.Runner.answer = fakes.{answer}\n"
        f"sys.argv = ['gpu-validator', 'check', '--output', '{form}']\n"
        "sys.exit(cli.main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    os.close(stdout)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(("answer", "code"), [("SOUND", 0), ("SICK", 1)])
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_verdict_stands_when_the_reader_leaves(form: str, answer: str, code: int) -> None:
    """`check | head`: the exit code is still the verdict, and nothing is complained of."""
    reader, writer = os.pipe()
    os.close(reader)

    assert faked(answer, form, writer) == (code, b"")


@pytest.mark.parametrize(("answer", "code"), [("SOUND", 2), ("SICK", 1)])
def test_a_report_that_is_lost_is_no_pass(answer: str, code: int) -> None:
    """Stdout on a full disk: one line, and a fail is still a fail."""
    ended, err = faked(answer, "text", os.open("/dev/full", os.O_WRONLY))

    assert ended == code
    assert err.startswith(b"gpu-validator: error: the report could not be written")
    assert err.count(b"\n") == 1


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("lst 2>/dev/full", 2),
        ("list >/dev/full", 2),
        ("list >/dev/full 2>/dev/full", 2),
        ("check --bogus --exit-style nagios 2>/dev/full", 3),
        ("check --bogus --fail-open 2>/dev/full", 0),
    ],
)
def test_a_full_disk_is_no_sick_node(script: str, code: int) -> None:
    """A log that cannot be written never makes the 1 that drains a node."""
    line = f"{sys.executable} -m validator {script}"
    ended = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert "bug" not in ended.stderr


def test_shell_completion() -> None:
    """The shell is told of probes."""
    words = {"COMP_WORDS": "gpu-validator check --probe auto", "COMP_CWORD": "3"}
    asking = {"_GPU_VALIDATOR_COMPLETE": "complete_bash", **words}
    ended = command(env={**os.environ, **asking})

    assert ended.stdout.split() == ["autograd"]


def processes_of(parent: int) -> list[int]:
    """The worker that a command started, and all that came of it."""
    mark = f"{MARKER}={parent}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def until(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process(number: signal.Signals) -> None:
    """A real run, stopped while its worker imports torch: over within 5 s, and all of it."""
    run = subprocess.Popen(
        [sys.executable, "-m", "validator", "check", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert until(lambda: processes_of(run.pid))
    started = time.monotonic()
    run.send_signal(number)
    out, err = run.communicate(timeout=30)
    took = time.monotonic() - started

    assert run.returncode == 128 + number
    assert "Traceback" not in err
    assert {one.reason for one in Report.model_validate_json(out).not_run} == {"cancelled"}
    assert took < 5
    assert until(lambda: not processes_of(run.pid), 2)


def test_signals_are_kept_until_a_run_heeds_them(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that comes while libraries are imported is the run's; afterwards all is as it was."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupted(*args: Any, **options: Any) -> Plan:
        os.kill(os.getpid(), signal.SIGTERM)
        return make_plan(*args, **options)

    monkeypatch.setattr(one_run, "make_plan", interrupted)

    assert call("check", "--output", "json") == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_early_signal_ends_it_by_itself() -> None:
    """Whatever is being imported, and however long that takes."""
    program = (
        "import os, signal\n"
        "from validator.cli.early import EarlySignals\n"
        "EarlySignals().listen()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('still here', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('never')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "still here\n")


@pytest.mark.torch
def test_a_real_check() -> None:
    """From the command to torch and back: one document, its verdict as the exit code."""
    ended = command("check", "--probe", "torch_version", "--output", "json")
    made = Report.model_validate_json(ended.stdout)

    assert [result.probe for result in made.results] == ["torch_version"]
    assert ended.returncode == {"pass": 0, "warn": 0, "fail": 1, "error": 2}[made.status]
    assert made.environment.torch


def test_a_real_check_without_streams() -> None:
    """A caller that closed stdin, stdout and stderr gets the verdict all the same."""
    script = f"{sys.executable} -m validator check --probe torch_version <&- >&- 2>&-"
    ended = subprocess.run(["sh", "-c", script], timeout=60, check=False)

    assert ended.returncode == command("check", "--probe", "torch_version").returncode


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


class Health(BaseHTTPRequestHandler):
    """A daemon that is well at /healthz and ill at /ill."""

    def do_GET(self) -> None:
        """Answer by the path."""
        self.send_response({"/healthz": 200, "/ill": 503}.get(self.path, 404))
        self.end_headers()
        self.wfile.write(b"the scheduler stands still\nand more")

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def daemon() -> Iterator[str]:
    """Its URL."""
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_healthcheck(
    daemon: str, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 when the daemon is well, 1 with its words when not; a proxy is none of its business."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    well = [
        call("healthcheck", "--url", daemon),
        call("healthcheck", "--url", f"{daemon}/"),
        call("healthcheck", "--web.listen-address", daemon.removeprefix("http://")),
    ]
    assert capsys.readouterr().err == ""
    ill = call("healthcheck", "--url", f"{daemon}/ill")

    assert well == [0, 0, 0]
    assert ill == 1
    assert "answered 503: the scheduler stands still\n" in capsys.readouterr().err


def test_healthcheck_finds_the_daemon_by_its_settings(
    daemon: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon on every interface is asked on the loopback."""
    port = daemon.rpartition(":")[2]
    monkeypatch.setenv("GPU_VALIDATOR_WEB__LISTEN_ADDRESS", f":{port}")

    assert call("healthcheck") == 0


def test_healthcheck_without_a_daemon(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = call("healthcheck", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}")

    assert refused == 1
    assert "cannot be asked" in capsys.readouterr().err


def test_healthcheck_is_bounded(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon that sends a byte now and then does not hold it for longer."""
    monkeypatch.setattr(healthcheck, "_DEADLINE_S", 0.3)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        code = call("healthcheck", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
        took = time.monotonic() - started
        stop.set()
        thread.join()

    assert code == 1
    assert took < 2
    assert "gave no answer in 0.3 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("fe80::1", "http://[fe80::1]:1"),
        ("gpu-17", "http://gpu-17:1"),
    ],
)
def test_where_a_daemon_is_asked(host: str, url: str) -> None:
    """Every form of a listening address."""
    assert ask.url_of(host, 1) == url


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
