"""What is seen of a command line before it is parsed is what the parser sees."""

import pytest

from tests.validator.cli.fakes import Call, Runner, Worker

pytestmark = pytest.mark.slow

BARE = ("container", "telemetry")


@pytest.mark.parametrize(
    "line",
    [
        "--probe container",
        "--probe=container",
        "--probe container,telemetry",
        "--probe=container,telemetry",
        "--probe container --probe telemetry",
        "-q --probe container,telemetry -o json",
        "-qo json --probe container",
        "--probe container,autograd",
        "--probe=container --probe=telemetry,autograd",
        "--profile instant",
        "--profile=instant -v",
        "--profile instant --probe autograd,container",
        "--profile instant --profile quick",
        "--profile quick --profile=instant",
        "-ojson -q",
        "",
    ],
)
def test_the_worker_suits_the_run(line: str, call: Call, workers: list[Worker]) -> None:
    """One worker, without torch exactly where no probe of the run needs it."""
    assert call("check", *line.split()) == 0
    assert Runner.seen is not None
    needs = any(spec.needs_torch for spec in Runner.seen[0].specs)

    assert [worker.bare for worker in workers] == [not needs]


@pytest.mark.parametrize("line", ["-h", "-qh", "-vqh", "--help", "-q --help", "-ojson -h"])
def test_no_worker_for_a_help_text(line: str, call: Call, workers: list[Worker]) -> None:
    """Among other letters too."""
    assert call("check", *line.split()) == 0
    assert workers == []


@pytest.mark.parametrize("line", ["-q", "-oh", "-qoh"])
def test_a_value_is_no_help(line: str, call: Call, workers: list[Worker]) -> None:
    """`-oh` is the form `h`, which there is none of: no reason to start late."""
    call("check", *line.split())

    assert len(workers) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--exit-style nagios --nonsense", 3),
        ("--exit-style=nagios --exit-style default --nonsense", 2),
        ("--exit-style default --exit-style=nagios --nonsense", 3),
        ("--nonsense --fail-open", 0),
    ],
)
def test_the_exit_code_without_a_parser(line: str, code: int, call: Call) -> None:
    """The last of an option that is given twice counts, as the parser has it."""
    assert call("check", *line.split()) == code
