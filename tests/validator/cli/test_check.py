"""`check`: its options reach the run, and the verdict is the exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.validator import reports
from tests.validator.cli.fakes import SICK, SOUND, Call, Runner, Worker, command
from validator import profiles
from validator.report import Report

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize(
    "line",
    [
        "--probe autograd,torch_version --device cuda:0,cpu",
        "--probe=torch_version,autograd --device=cuda:0,cpu",
        "--probe autograd --probe torch_version --device cuda:0 --device cpu",
    ],
)
def test_lists_with_commas_are_repeats(call: Call, line: str) -> None:
    """For the names of probes and of devices."""
    assert call("check", *line.split()) == 0
    assert Runner.seen is not None
    plan, settings = Runner.seen

    assert [spec.name for spec in plan.specs] == ["torch_version", "autograd"]
    assert settings.run.devices == ("cuda:0", "cpu")


def test_probes_are_left_out_by_a_list(call: Call) -> None:
    """With a blank after the comma too, as people write."""
    call("check", "--no-probe", "autograd, tensor_ops")
    assert Runner.seen is not None
    names = {spec.name for spec in Runner.seen[0].specs}

    assert "train_eval" in names
    assert not names & {"autograd", "tensor_ops"}


def test_a_typing_error_in_a_device_drains_nobody(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the environment too, as a prolog's settings: could not tell, where it was a fail."""
    monkeypatch.setenv("GPU_VALIDATOR_RUN__DEVICES", "cud:0")

    assert call("check") == 2
    assert Runner.seen is None
    told = capsys.readouterr().err
    assert "environment variable GPU_VALIDATOR_RUN__DEVICES: run.devices: 'cud:0' is no" in told


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


def test_config_check_looks_at_files_to_be_written(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command line asks for is part of what is proven."""
    assert call("check", "--config.check", "--output-file", "/none/x") == 2
    assert "--output-file /none/x: there is no directory /none" in capsys.readouterr().err


def test_config_check_proves_what_the_command_needs(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon writes files; a check with the same settings does not."""
    file = tmp_path / "settings.yaml"
    file.write_text("files:\n  ready: /none/ready\n", encoding="utf-8")

    assert call("check", "--config.check", "--config.file", str(file)) == 0
    assert call("serve", "--config.check", "--config.file", str(file)) == 2
    assert f"{file}:2: files.ready: there is no folder /none" in capsys.readouterr().err


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
