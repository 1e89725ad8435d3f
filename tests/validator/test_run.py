"""What a run makes of its survey: devices that others use, and a driver that hangs."""

import os
import signal
from pathlib import Path

import pytest

from tests.validator.runs import Ran, ran, spec, write, zombies
from validator import run as run_module
from validator import settings as settings_module
from validator import supervisor
from validator.plan import Plan, limits, make_plan, timeout_s
from validator.report import to_json
from validator.runner import Runner

pytestmark = pytest.mark.torch

PLAN = Plan((spec("later"), spec("host", "host")), "quick", "cli")

#: A machine of its own for the worker: its `sitecustomize` puts a survey in place of ours.
SURVEY = """
import os, signal, sys, time, types
survey = types.ModuleType("probes.survey")
def take():
{body}
survey.take = take
sys.modules["probes.survey"] = survey
"""

GPU = """{{"name": "cuda:{index}", "type": "cuda", "index": {index}, "uuid": "GPU-{index}",
          "process_count": {processes}, "memory_free_bytes": 1000000, "compute_mode": "default"}}"""


def surveyed(folder: Path, body: str) -> None:
    """Have the worker's survey do something else."""
    (folder / "sitecustomize.py").write_text(SURVEY.format(body=body))


def test_a_gpu_that_others_fill_is_skipped_as_busy(folder: Path) -> None:
    """Contention is a skip with its reason, on each device, and host probes run all the same."""
    gpus = ", ".join(GPU.format(index=index, processes=2) for index in range(2))
    surveyed(folder, f"    return {{'devices': [{gpus}], 'hardware': []}}")

    seen = ran(PLAN)

    assert [(r.device, r.status, r.reason) for r in seen.report.results] == [
        ("cuda:0", "skip", "gpu_busy"),
        ("cuda:1", "skip", "gpu_busy"),
        ("cpu", "pass", "ok"),
    ]
    assert "2 other processes on it leave 1000000 bytes free" in seen.report.results[0].summary
    assert [device.name for device in seen.report.devices] == ["cuda:0", "cuda:1"]


def test_a_gpu_that_nobody_uses_is_run_on(folder: Path) -> None:
    """The same device without others is not skipped: here torch cannot use it, and that fails."""
    gpu = GPU.format(index=0, processes=0)
    surveyed(folder, f"    return {{'devices': [{gpu}], 'hardware': []}}")

    seen = ran(PLAN)

    assert (seen.of("later").device, seen.of("later").status) == ("cuda:0", "fail")
    assert seen.of("later").gpu_uuid == "GPU-0"


SICK_SURVEYS = {
    "raises": "    raise RuntimeError('no survey')",
    "dies": "    os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs": "    time.sleep(600)",
    "kills the worker": "    os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)",
}


@pytest.mark.parametrize("body", SICK_SURVEYS.values(), ids=SICK_SURVEYS)
def test_without_a_survey_the_probes_run_on_the_cpu(
    folder: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The devices are unknown then; cuda_available asks for itself, under its own deadline."""
    monkeypatch.setattr(run_module, "_SURVEY_S", 1.0)
    monkeypatch.setattr(run_module, "START_S", 60.0)  # for what has answered to end
    surveyed(folder, body)

    seen = ran(PLAN)

    assert seen.report.duration_s < 30

    assert {(r.probe, r.device, r.status) for r in seen.report.results} == {
        ("later", "cpu", "pass"),
        ("host", "cpu", "pass"),
    }


def test_a_survey_that_cannot_be_killed_is_the_drivers_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once a run, in cuda_available's name, and no second one is started behind it."""
    pid_file = folder / "pid"
    monkeypatch.setattr(run_module, "_SURVEY_S", 1.0)
    monkeypatch.setattr(run_module, "START_S", 0.2)
    monkeypatch.setattr(supervisor, "_KILL_S", 0.3)
    real = supervisor.signal_group

    def signal_group(pid: int, number: int) -> None:
        if not (pid_file.exists() and pid_file.read_text() == str(pid)):
            real(pid, number)

    monkeypatch.setattr(supervisor, "signal_group", signal_group)
    surveyed(
        folder,
        "    import ctypes; ctypes.CDLL(None).prctl(1, 0)\n"  # outlives its worker
        f"    open('{pid_file}', 'w').write(str(os.getpid()))\n    time.sleep(600)",
    )
    plan = make_plan(settings_module.load(), "cli", only=("cuda_available",))
    runner = Runner()

    def check(seen: Ran) -> None:
        (result,) = seen.report.results
        assert (result.probe, result.status, result.reason) == (
            "cuda_available",
            "fail",
            "timeout",
        )
        assert "cannot be killed" in result.summary
        assert result.findings[0].action == "reboot_node"

    try:
        check(ran(plan, runner=runner, leaves=pid_file))
        first = pid_file.read_text()
        check(ran(plan, runner=runner, leaves=pid_file))
        assert pid_file.read_text() == first
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        os.waitpid(int(pid_file.read_text()), 0)
    assert zombies() == []


def test_the_quick_profile_is_sound_here_and_fits_its_budget_on_eight_gpus() -> None:
    """The real probes, on the CPU; their part of a report, eight times over, is 256 KiB at most."""
    settings = settings_module.load(flags={"run": {"devices": ("cpu",)}})

    report = ran(make_plan(settings, "cli"), settings).report

    assert {r.status for r in report.results} <= {"pass", "skip"}, report.summary
    assert len(report.results) == 7
    assert all(r.observation is None for r in report.results)
    on_devices = [r for r in report.results if r.probe not in {"torch_version", "numpy_sharing"}]
    eight = report.model_copy(update={"results": report.results + tuple(7 * on_devices)})
    assert len(to_json(eight).encode()) <= 256 * 1024


def test_observations_of_what_passed_are_kept_on_request(folder: Path) -> None:
    """What is needed to judge a stored report again; by default only what failed has it."""
    write(folder, "later", "    return Seen(total=999)")
    settings = settings_module.load(flags={"run": {"observations": True}})

    assert ran(PLAN).of("host").observation is None
    assert ran(PLAN).of("later").observation == {"total": 999.0}
    assert ran(PLAN, settings).of("host").observation == {"total": 1000.0}


def test_a_plan_takes_the_probes_of_the_profile_or_those_named() -> None:
    """Names win over the profile; what is refused is left out; an unknown name is named."""
    settings = settings_module.load()
    named = make_plan(settings, "cli", only=("autograd", "tensor_ops"), without=("tensor_ops",))

    assert [each.name for each in named.specs] == ["autograd"]
    assert len(make_plan(settings, "cli").specs) == 7
    with pytest.raises(ValueError, match="autograt"):
        make_plan(settings, "cli", only=("autograt",))


def test_what_the_node_promises_reaches_the_probes_and_their_own_settings_win() -> None:
    """`expect` becomes limits; a probe's own limits and deadline go over the catalogue's."""
    flags = {
        "expect": {"gpus": 8, "torch": ">=2.6"},
        "probes": {"cuda_available": {"timeout": "90s", "limits": {"first_kernel_s": 5.0}}},
    }
    settings = settings_module.load(flags=flags)
    specs = {each.name: each for each in make_plan(settings, "cli").specs}

    assert limits(specs["cuda_available"], settings) == {"gpus": 8, "first_kernel_s": 5.0}
    assert limits(specs["torch_version"], settings) == {"torch": ">=2.6", "gpus": 8}
    assert timeout_s(specs["cuda_available"], settings) == 90
    assert limits(specs["autograd"], settings) == {}
