"""What all tests share: the signals of a terminal, what is said at the start and at the end."""

import contextlib
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests import dead_disk as dead
from tests.emulator import install

#: What a shell leaves ignored for a command in the background, or `nohup`: every process that a
#: test starts would inherit it, and could not be stopped by these.
_INHERITED = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD)


def pytest_configure() -> None:
    """Start from the signals of a terminal, wherever the tests were started."""
    for number in _INHERITED:
        if signal.getsignal(number) is signal.SIG_IGN:
            interrupts = number is signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupts else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INHERITED)


def pytest_report_header(config: pytest.Config) -> str:
    """How long the tests take on two idle cores, said before anybody waits for them."""
    chosen = str(config.getoption("markexpr", ""))
    if "not slow" in chosen:
        return "the fast tests: about two minutes on two cores"
    return "all tests: about 15 minutes on two cores; `make quick-test` takes two"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs may be no text; what it reports goes to another process, as text."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped and why, a line a reason, the most frequent first."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        # (file, line, "Skipped: why"); only an expected failure has another form
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.write_sep("=", "skipped, and why")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What a command that ran in this process did to signals ends with its test."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def emulator() -> Path:
    """The folder that gives a process the devices `fake:0` and `fake:1`, when on PYTHONPATH."""
    return install()


@pytest.fixture
def dead_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system that never answers; skipped where mounting is not allowed."""
    folder = tmp_path / "dead"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(dead.mounted(folder))
        except OSError as error:
            pytest.skip(f"mounting with /dev/fuse is not allowed here: {error.strerror}")
        yield folder
