"""What all tests share."""

import signal
from pathlib import Path

import pytest

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
    """How long it takes, before it is waited for."""
    chosen = str(config.getoption("markexpr", ""))
    if "not slow" in chosen:
        return "these are the fast tests: about a minute on two cores"
    return "all tests: some minutes on two cores; `make quick-test` is the first minute of them"


@pytest.fixture(scope="session")
def emulator() -> Path:
    """The folder that gives a process the devices `fake:0` and `fake:1`, when on PYTHONPATH."""
    return install()
