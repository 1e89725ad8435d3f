"""The command in this process, with a fake runner."""

import os
import sys

import pytest

from tests.validator.cli.fakes import SOUND, Call, Runner, Worker
from validator.cli import early, one_run
from validator.cli import main as cli
from validator.report import Report


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The workers that were started early; none is real."""
    started: list[Worker] = []

    def start(*, bare: bool = False) -> Worker:
        started.append(Worker(bare=bare))
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
