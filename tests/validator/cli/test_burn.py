"""The command `burn`: its options, its document in each form, its lines, its exit code."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.validator import reports
from tests.validator.cli.fakes import ROOT, Call, command
from tests.validator.cli.test_signals import processes_of, until
from validator.burn import Burn, BurnCount, BurnDevice, Range
from validator.cli import one_burn
from validator.engine.burning import Wishes
from validator.engine.plan import Plan
from validator.engine.stopping import Stop
from validator.engine.tally import Round
from validator.render.console import plain_console
from validator.render.text import render
from validator.report import NotRun, Report, exit_code

BURN = Burn(
    wanted_s=600.0,
    rounds=7,
    counts=(
        BurnCount(probe="memory_full", device="cuda:0", runs=7, tested_s=300.0, worst="pass"),
        BurnCount(
            probe="memory_full",
            device="cuda:1",
            runs=7,
            failures=2,
            errors=1,
            tested_s=300.0,
            worst="fail",
            worst_round=3,
            worst_at=reports.STARTED,
        ),
    ),
    devices=(
        BurnDevice(
            device="cuda:0",
            tested_s=300.0,
            runs=7,
            failures_per_hour=0.0,
            temperature_c=Range(least=34.0, most=71.0),
            power_w=Range(least=80.4, most=698.2),
            clock_mhz=Range(least=1755.0, most=1755.0),
            counters={"volatile_corrected": 0.0},
        ),
        BurnDevice(
            device="cuda:1",
            tested_s=300.0,
            runs=7,
            failures=2,
            failures_per_hour=24.0,
            counters={"volatile_corrected": 3.0},
            xids=2,
        ),
    ),
)


def burned(status: str = "pass") -> Report:
    """The report of a burn."""
    results = [
        reports.result("memory_full", "cuda:0"),
        reports.result("memory_full", "cuda:1", status),
    ]
    return reports.report(results, profile="burn", burn=BURN)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a burn was asked for, which gives the report that is put there."""
    seen: dict[str, Any] = {"report": burned(), "signals": ()}

    async def burn(
        plan: Plan, settings: Any, wishes: Wishes, _: Any, on_event: Any, tell: Any, stop: Stop
    ) -> Report:
        seen.update(plan=plan, settings=settings, wishes=wishes)
        tell(Round(1, Counter({"pass": 2, "fail": 1}), ("memory_full on cuda:1",)), 65.0)
        tell(Round(2, {}, (), {"temperature_c": Range(least=70.0, most=70.4)}), 0.0)
        for number in seen["signals"]:
            stop.take(number)
        report: Report = seen["report"]
        return report

    monkeypatch.setattr(one_burn, "burn", burn)
    return seen


def test_its_options_reach_the_burn(call: Call, asked: dict[str, Any]) -> None:
    """Duration, devices, probes, together, giving way."""
    assert call("burn", "--output", "json") == 0
    assert asked["wishes"] == Wishes(600.0)
    assert not asked["plan"].gives_way

    line = "--duration 1h30m --together --give-way --device cuda:1 --probe memory_pattern"
    assert call("burn", *line.split(), "--output", "json") == 0
    assert asked["wishes"] == Wishes(5400.0, together=True)
    assert asked["plan"].gives_way
    names = [spec.name for spec in asked["plan"].specs]
    assert names == ["telemetry", "cuda_available", "memory_pattern"]
    assert asked["settings"].run.devices == ("cuda:1",)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--duration 0", "--duration: '0' is no time above 0"),
        ("--duration -5s", "--duration: '-5s' is no duration; write seconds (90) or 500ms"),
        ("--duration soon", "--duration: 'soon' is no duration; write seconds (90) or 500ms"),
        ("--duration 10x", "'10x' is no duration"),
        ("--duration inf", "'inf' is no duration"),
        ("--probe memory_ful", "did you mean 'memory_full'?"),
        ("--probe companions", "--probe: companions loads no device, so that it cannot burn one"),
        ("--no-probe memory_full --probe memory_full", "no probe is left to burn with"),
        ("--durration 5s", "did you mean --duration?"),
        ("--output-file /nowhere/at/all", "--output-file"),
    ],
)
def test_what_cannot_be_is_refused(
    call: Call, asked: dict[str, Any], capsys: pytest.CaptureFixture[str], line: str, complaint: str
) -> None:
    """With what would be right, and the code of wrong usage."""
    code = call("burn", *line.split())

    assert code == 2
    assert complaint in capsys.readouterr().err
    assert "plan" not in asked


@pytest.mark.parametrize(("status", "code"), [("pass", 0), ("fail", 1), ("error", 2)])
def test_the_verdict_is_the_exit_code(
    call: Call, asked: dict[str, Any], status: str, code: int
) -> None:
    """As that of a check."""
    asked["report"] = burned(status)

    assert call("burn", "--quiet") == code
    assert exit_code(asked["report"]) == code
    if status == "error":
        assert call("burn", "--fail-open") == 0
        assert call("burn", "--exit-style", "nagios") == 3


def test_a_signal_is_the_exit_code(
    call: Call, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the report of what was found until then."""
    asked["signals"] = (signal.SIGTERM,)

    assert call("burn", "--output", "json") == 143
    told = capsys.readouterr()
    assert json.loads(told.out)["burn"]["rounds"] == 7
    assert told.err.splitlines()[-1] == "gpu-validator: stopped by SIGTERM in round 7"


def test_a_time_in_which_nothing_starts_is_said(
    call: Call, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the boards have told meanwhile; a longer one says nothing."""
    missed = [NotRun(probe="memory_full", device="cuda:0", reason="run_timeout")]
    burn = Burn(wanted_s=1.0, rounds=1, devices=(BurnDevice(device="cuda:0"),))
    asked["report"] = reports.report([reports.result("telemetry")], missed, burn=burn)
    code = call("burn", "--quiet")
    told = capsys.readouterr().err
    asked["report"] = burned()
    call("burn", "--quiet")

    assert code == 2
    assert "the time was over before a probe could start: give a longer --duration" in told
    assert capsys.readouterr().err == ""


def test_each_round_is_a_line(
    call: Call, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, unless it is to be quiet."""
    call("burn")
    told = capsys.readouterr().err.splitlines()
    call("burn", "--quiet")

    assert told == [
        "gpu-validator: round 1: 2 pass, 1 fail (memory_full on cuda:1); 65 s left",
        "gpu-validator: round 2: nothing ended; 70 °C",
    ]
    assert capsys.readouterr().err == ""


def test_what_was_counted_as_text() -> None:
    """A line a device; a line a probe that failed, with the round of the result below."""
    text = render(burned("fail"), plain_console())

    assert "7 rounds of 10.0 min wanted\n" in text
    worst = "the fail below is of round 3 at 03:04:05 UTC"
    for line in (
        "cuda:0  5.0 min  7     0              34-71 °C, 80-698 W, 1755 MHz; no counter rose",
        "cuda:1  5.0 min  7     2 (24 an hour)  volatile_corrected +3; 2 Xid",
        f"memory_full on cuda:1: 2 of 7 runs failed, 1 told nothing; {worst}",
    ):
        assert " ".join(line.split()) in " ".join(text.split())


@pytest.mark.parametrize("form", ["json", "junit", "prom"])
def test_every_form_of_a_report_is_one_of_a_burn(
    call: Call, asked: dict[str, Any], capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Only JSON holds what was counted."""
    call("burn", "--quiet", "--output", form)
    out = capsys.readouterr().out

    assert "memory_full" in out
    if form == "json":
        assert Report.model_validate_json(out).burn == BURN


def test_a_report_of_a_check_has_no_burn(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is there for burns alone."""
    call("check", "--output", "json")

    assert "burn" not in json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.torch
def test_a_burn_of_this_machine(tmp_path: Path) -> None:
    """A real one: over when the time is, its document in a file, its rounds on stderr."""
    file = tmp_path / "burn.json"
    argv = ("--duration", "12s", "--device", "cpu", "--output", "json", "--output-file", str(file))
    done = command("burn", *argv)
    report = json.loads(file.read_text(encoding="utf-8"))

    assert done.returncode == 0, done.stderr
    assert report["burn"]["rounds"] >= 1
    assert report["burn"]["devices"][0]["runs"] >= 1
    assert re.search(r"round 1: \d+ pass", done.stderr)
    assert f"{report['burn']['rounds']} round" in done.stdout


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_real_burn_with_its_report(number: signal.Signals) -> None:
    """After its first round; no process is left, nor the worker of the next round."""
    run = subprocess.Popen(
        [sys.executable, "-m", "validator", "burn", "--device", "cpu", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert run.stderr is not None
    heard = run.stderr.readline()
    while heard and "round 1:" not in heard:
        heard = run.stderr.readline()
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    report = Report.model_validate_json(out)
    assert report.burn is not None

    assert run.returncode == 128 + number
    assert f"stopped by {number.name}" in err
    assert report.burn.stopped_by == f"stopped by {number.name}"
    assert (report.status, report.not_run) == ("pass", ())
    assert until(lambda: not processes_of(run.pid), 5)
