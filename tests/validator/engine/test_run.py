"""What a run makes of its survey: devices that others use, and a driver that hangs."""

import dataclasses
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.catalog import BY_NAME
from tests.validator.runs import Ran, ran, spec, write, zombies
from validator.engine import cgroup, supervisor
from validator.engine import child as child_module
from validator.engine import run as run_module
from validator.engine.held_up import Progress
from validator.engine.job import Job
from validator.engine.plan import Plan, limits, make_plan, schedule_note, timeout_s
from validator.engine.runner import Runner
from validator.report import CPU, Device, to_json
from validator.settings import loading

pytestmark = [pytest.mark.torch, pytest.mark.slow]

PLAN = Plan((spec("later"), spec("host", "host")), "quick", "cli")

#: A machine of its own for the worker: its `sitecustomize` puts a survey in place of ours.
SURVEY = """
import os, signal, sys, time, types
survey = types.ModuleType("probes.node.survey")
def take():
{body}
survey.take = take
sys.modules["probes.node.survey"] = survey
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


#: A device that only a process of its own is shown, as an instance is; here the CPU stands for it.
ALONE = """{{"name": "cpu:0:{slot}", "type": "cpu", "index": {slot}, "uuid": "MIG-{slot}",
            "parent_uuid": "GPU-0", "alone": True, "process_count": {slot},
            "memory_free_bytes": 1000000}}"""


def test_every_instance_gets_a_child_that_is_shown_it_alone(folder: Path) -> None:
    """The child's variable holds its UUID, torch's name is of the first device, the report's own.

    Three instances, of which others fill one.
    """
    listed = ", ".join(ALONE.format(slot=slot) for slot in (0, 2, 0))
    listed = listed.replace("cpu:0:0", "cpu:0:1", 1).replace("MIG-0", "MIG-1", 1)
    surveyed(folder, f"    return {{'devices': [{listed}], 'hardware': []}}")
    write(
        folder,
        "later",
        "    shown = os.environ['CUDA_VISIBLE_DEVICES']\n"
        "    before = os.environ['_GPU_VALIDATOR_VISIBLE_BEFORE']\n"
        "    raise RuntimeError(f'{device} is {shown}, before {before!r}')",
    )

    seen = ran(PLAN)
    results = {r.device: r for r in seen.report.results if r.probe == "later"}

    assert {name: r.reason for name, r in results.items()} == {
        "cpu:0:1": "torch_raised",
        "cpu:0:2": "gpu_busy",
        "cpu:0:0": "torch_raised",
    }
    assert "cpu:0 is MIG-1, before ''" in results["cpu:0:1"].summary
    assert "cpu:0 is MIG-0, before ''" in results["cpu:0:0"].summary
    assert [r.gpu_uuid for r in results.values()] == ["MIG-1", "MIG-2", "MIG-0"]


def statuses(seen: Ran) -> list[tuple[str, str, str, str]]:
    """Probe, device, status and reason of every result."""
    return [(r.probe, r.device, r.status, r.reason) for r in seen.report.results]


def test_a_device_that_was_asked_for_and_is_gone_is_told_once(folder: Path) -> None:
    """Of two devices one is there: `cuda_available` fails for the other, the rest points to it."""
    present = ALONE.format(slot=0).replace("cpu:0:0", "cpu:0").replace("True", "False")
    surveyed(folder, f"    return {{'devices': [{present}], 'hardware': []}}")
    settings = loading.load(flags={"run": {"devices": ("cuda:3", "GPU-12345678")}})
    plan = Plan((spec("later"), BY_NAME["cuda_available"]), "quick", "cli")

    seen = ran(plan, settings)

    assert statuses(seen) == [
        ("later", "cuda:3", "skip", "dependency"),
        ("later", "GPU-12345678", "skip", "dependency"),
        ("cuda_available", "cuda:3", "fail", "no_device"),
        ("cuda_available", "GPU-12345678", "fail", "no_device"),
    ]
    assert seen.report.results[2].findings[0].id == "cuda_available.all_gpus"
    assert (
        seen.report.results[2].summary == "not here, though it was asked for: there is cpu:0, cpu"
    )
    assert seen.report.results[3].gpu_uuid == "GPU-12345678"


@pytest.mark.parametrize("name", ["cuda:0", "cuda", "GPU-12345678", "0000:0f:00.0"])
def test_where_no_gpu_is_listed_its_cause_is_looked_for(folder: Path, name: str) -> None:
    """Asked for on a machine without one: the real `cuda_available` fails in the CPU's place."""
    surveyed(folder, "    return {'devices': [], 'hardware': []}")
    settings = loading.load(flags={"run": {"devices": (name,)}, "expect": {"gpus": 0}})
    plan = Plan((spec("later"), BY_NAME["cuda_available"]), "quick", "cli")
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")

    seen = ran(plan, settings)

    assert statuses(seen) == [
        ("later", name, "skip", "dependency"),
        ("cuda_available", "cpu", "fail", "check_failed"),
    ]
    assert f"asked for were {name}" in seen.of("cuda_available").findings[5].message


def test_a_number_says_nothing_on_a_node_with_instances(folder: Path) -> None:
    """Slurm counts instances, CUDA GPUs: a name for either is wrong usage, no lost GPU."""
    surveyed(folder, f"    return {{'devices': [{ALONE.format(slot=0)}], 'hardware': []}}")
    settings = loading.load(flags={"run": {"devices": ("cuda:3", "MIG-12345678")}})

    seen = ran(Plan((spec("later"),), "quick", "cli"), settings)

    assert statuses(seen) == [
        ("later", "cuda:3", "error", "no_device"),
        ("later", "MIG-12345678", "fail", "no_device"),
    ]
    assert "there is cpu:0:0" in seen.report.results[0].summary


def test_what_could_not_be_listed_is_not_called_absent(folder: Path) -> None:
    """The survey died: whether the device is there cannot be told, and nothing is drained."""
    surveyed(folder, SICK_SURVEYS["raises"])
    settings = loading.load(flags={"run": {"devices": ("cuda:0",)}})

    seen = ran(PLAN, settings)

    assert (seen.of("later").status, seen.of("later").reason) == ("error", "internal_error")
    assert "could not be listed" in seen.of("later").summary


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


@pytest.mark.parametrize(
    "obstacle", ["", pytest.param("it waits for a file", marks=pytest.mark.long)]
)
def test_a_survey_that_cannot_be_killed_is_the_drivers_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """It is told once a run, in cuda_available's name, and no second one is started behind it.

    Not so where something else than a driver holds it.
    """
    monkeypatch.setattr(Progress, "obstacle", lambda self: obstacle)
    pid_file = folder / "pid"
    monkeypatch.setattr(run_module, "_SURVEY_S", 1.0)
    monkeypatch.setattr(run_module, "START_S", 0.2)
    monkeypatch.setattr(supervisor, "_KILL_S", 0.3)
    real = child_module.signal_group

    def signal_group(pid: int, number: int) -> None:
        if not (pid_file.exists() and pid_file.read_text() == str(pid)):
            real(pid, number)

    monkeypatch.setattr(child_module, "signal_group", signal_group)
    surveyed(
        folder,
        "    import ctypes; ctypes.CDLL(None).prctl(1, 0)\n"  # outlives its worker
        f"    open('{pid_file}', 'w').write(str(os.getpid()))\n    time.sleep(600)",
    )
    plan = make_plan(loading.load(), "cli", only=("cuda_available",))
    runner = Runner()

    def check(seen: Ran) -> None:
        (result,) = seen.report.results
        assert (result.probe, result.status, result.reason) == (
            "cuda_available",
            *(("error", "internal_error") if obstacle else ("fail", "timeout")),
        )
        assert ("the driver holds it" in result.summary) is (not obstacle)
        assert result.findings[0].action == ("fix_config" if obstacle else "reboot_node")

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
    settings = loading.load(flags={"run": {"devices": ("cpu",)}})

    report = ran(make_plan(settings, "cli"), settings).report

    assert {r.status for r in report.results} <= {"pass", "skip"}, report.summary
    assert len(report.results) == len(make_plan(settings, "cli").specs)
    assert all(r.observation is None for r in report.results)
    on_devices = [r for r in report.results if BY_NAME[r.probe].needs == "device"]
    eight = report.model_copy(update={"results": report.results + tuple(7 * on_devices)})
    assert len(to_json(eight).encode()) <= 256 * 1024


def test_observations_of_what_passed_are_kept_on_request(folder: Path) -> None:
    """What is needed to judge a stored report again; by default only what failed has it."""
    write(folder, "later", "    return Seen(total=999)")
    settings = loading.load(flags={"run": {"observations": True}})

    assert ran(PLAN).of("host").observation is None
    assert ran(PLAN).of("later").observation == {"total": 999.0}
    assert ran(PLAN, settings).of("host").observation == {"total": 1000.0}


def test_a_plan_takes_the_probes_of_the_profile_or_those_named() -> None:
    """Names win over the profile; what is refused is left out; an unknown name is named."""
    settings = loading.load()
    named = make_plan(settings, "cli", only=("autograd", "tensor_ops"), without=("tensor_ops",))

    assert [each.name for each in named.specs] == ["autograd"]
    assert len(make_plan(settings, "cli").specs) == 12
    with pytest.raises(ValueError, match="autograt"):
        make_plan(settings, "cli", only=("autograt",))


def test_a_schedule_has_deep_probes_only_with_a_timetable() -> None:
    """They are for admission and drained nodes; a check of profile deep has them all."""
    deep = loading.load(flags={"run": {"profile": "deep"}})
    asked = loading.load(
        flags={"run": {"profile": "deep"}, "schedule": {"memory_full": {"cron": "0 3 * * 0"}}}
    )

    def names(trigger: Any, settings: Any) -> set[str]:
        plan = make_plan(settings, trigger)
        return {one.name for one in plan.specs if one.profile == "deep"}

    assert names("schedule", deep) == set()
    assert names("schedule", asked) == {"memory_full"}
    assert names("cli", deep) == {one.name for one in BY_NAME.values() if one.profile == "deep"}
    assert "memory_full" in schedule_note(deep)
    assert "memory_full" not in schedule_note(asked)
    assert schedule_note(loading.load()) == ""


def test_what_the_node_promises_reaches_the_probes_and_their_own_settings_win() -> None:
    """`expect` becomes limits; a probe's own limits and deadline go over the catalogue's."""
    flags = {
        "expect": {"gpus": 8, "mig_instances": 7, "torch": ">=2.6"},
        "run": {"devices": ("cuda:0", "cpu", "GPU-12345678", "cuda0")},
        "probes": {"cuda_available": {"timeout": "90s", "limits": {"first_kernel_s": 5.0}}},
    }
    settings = loading.load(flags=flags)
    specs = {each.name: each for each in make_plan(settings, "cli").specs}

    assert limits(specs["cuda_available"], settings) == {
        "gpus": 8,
        "mig_instances": 7,
        "asked": ("cuda:0", "GPU-12345678"),
        "first_kernel_s": 5.0,
    }
    assert limits(specs["torch_version"], settings) == {"torch": ">=2.6", "gpus": 8}
    assert timeout_s(specs["cuda_available"], settings) == 90
    assert limits(specs["autograd"], settings) == {}


def a_run(monkeypatch: pytest.MonkeyPatch, cores: int, *found: Device) -> run_module.Run:
    """A run on a machine of so many cores, as it is once the devices were found."""
    monkeypatch.setattr(cgroup, "cores", lambda: cores)
    plan = Plan((), "quick", "cli")
    one = run_module.Run(plan, loading.load(), lambda _: None, {}, early=None, nice=0)
    one._devices = found
    return one


@pytest.mark.parametrize(
    ("cores", "parts"),
    [
        (1, [["a", "b", "c", "d", "e"]]),
        (2, [["a", "b", "c"], ["d", "e"]]),
        (16, [["a"], ["b"], ["c"], ["d"], ["e"]]),
    ],
)
def test_on_the_cpu_light_probes_are_cut_into_a_part_a_core(
    cores: int, parts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order; a GPU runs them in one process, whatever there are."""
    specs = [spec(name) for name in "abcde"]
    heavy = dataclasses.replace(spec("heavy"), profile="standard")
    one = a_run(monkeypatch, cores, CPU)

    assert [[each.name for each in part] for part in one._parts(CPU, [*specs, heavy])] == parts
    assert one._parts(CPU, []) == []
    assert one._parts(gpu(), specs) == [specs]
    assert one._parts(gpu(), [heavy]) == []


def gpu(**fields: Any) -> Device:
    """A GPU of 80 GiB that nobody uses."""
    free: dict[str, Any] = {"memory_free_bytes": 80 << 30, "compute_mode": "default"}
    return Device(name="cuda:0", type="cuda", index=0, **{**free, **fields})


@pytest.mark.parametrize(
    ("cores", "device", "heavy", "rows"),
    [
        (16, gpu(), 9, 4),
        (16, gpu(), 3, 3),
        (16, gpu(), 0, 1),
        (2, gpu(), 9, 2),
        (1, gpu(), 9, 1),
        (16, gpu(memory_free_bytes=4 << 30), 9, 2),
        (16, gpu(memory_free_bytes=None), 9, 1),
        (16, gpu(compute_mode="exclusive_process"), 9, 1),
        (2, CPU, 9, 2),
        (16, CPU, 9, 4),
    ],
)
def test_heavy_probes_run_in_as_many_rows_as_fit(
    cores: int, device: Device, heavy: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By cores, free memory and mode; the light ones are none of them."""
    specs = [dataclasses.replace(spec(f"p{i}"), profile="standard") for i in range(heavy)]

    assert a_run(monkeypatch, cores, device)._rows(device, [spec("light"), *specs]) == rows


def test_the_cores_are_shared_by_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight GPUs on sixteen cores have two rows each."""
    specs = [dataclasses.replace(spec(f"p{i}"), profile="standard") for i in range(9)]

    assert a_run(monkeypatch, 16, *[gpu()] * 8)._rows(gpu(), specs) == 2


def test_a_probe_that_takes_the_whole_device_runs_alone(folder: Path) -> None:
    """It begins when all others on the device have ended, and the next one when it has."""
    names = ("greedy", "one", "two", "greedier")
    for name in names:
        write(folder, name, "    time.sleep(0.2)")
    heavy = tuple(
        dataclasses.replace(spec(name), profile="standard", alone=name.startswith("greed"))
        for name in names
    )
    seen = ran(Plan(heavy, "standard", "cli"))

    assert [seen.of(name).status for name in names] == ["pass"] * 4
    ends = {
        name: seen.of(name).started_at + timedelta(seconds=seen.of(name).duration_s)
        for name in names
    }
    assert seen.of("greedy").started_at >= max(ends["one"], ends["two"])
    assert seen.of("greedier").started_at >= ends["greedy"]


def test_light_probes_do_not_wait_for_the_import_of_heavy_ones(folder: Path) -> None:
    """The worker forks nothing while it imports."""
    (folder / "slow_to_import.py").write_text("import time\ntime.sleep(2)\n")
    write(folder, "heavy")
    heavy = dataclasses.replace(spec("heavy"), profile="standard", preload=("slow_to_import",))
    seen = ran(Plan((heavy, spec("later")), "standard", "cli"))
    (light,) = (each for each in seen.report.results if each.probe == "later")

    assert seen.report.status == "pass"
    assert (seen.of("heavy").started_at - light.started_at).total_seconds() > 1.5


@pytest.mark.parametrize(("cores", "rows"), [(1, 1), (2, 2)])
def test_light_probes_run_first_and_memory_is_measured_alone(
    cores: int, rows: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heavy probe begins when the light ones have ended; beside another nothing is measured."""
    monkeypatch.setattr(cgroup, "cores", lambda: cores)
    requests: list[dict[str, Any]] = []
    take = Job._request

    def request(job: Job) -> dict[str, Any]:
        requests.append(take(job))
        return requests[-1]

    monkeypatch.setattr(Job, "_request", request)
    heavy = [dataclasses.replace(spec(name), profile="standard") for name in ("one", "two")]
    for each in heavy:
        write(folder, each.name)
    asked = loading.load(flags={"run": {"timings": True}})
    seen = ran(Plan((*heavy, spec("later")), "standard", "cli"), asked)
    names = [[probe["name"] for probe in each["probes"]] for each in requests]

    assert seen.report.status == "pass"
    assert names[0] == ["later"]
    assert sorted(names[1:]) == [["one"], ["two"]]
    assert min(seen.of(each.name).started_at for each in heavy) >= seen.of("later").started_at
    assert [each["memory"] for each in requests] == [True, rows == 1, rows == 1]
    assert all(seen.of(each.name).timings == seen.of("later").timings for each in heavy)


def test_the_cpus_probes_run_side_by_side(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each waits for the other's file: one after another neither would end."""
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(cgroup, "cores", lambda: 2)
    meet = """
    open(f"{folder}/{mine}", "w").close()
    deadline = time.monotonic() + 20
    while not os.path.exists(f"{folder}/{other}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
    for mine, other in (("left", "right"), ("right", "left")):
        body = meet.replace("{folder}", str(tmp_path)).replace("{mine}", mine)
        write(folder, mine, body.replace("{other}", other))
    specs = tuple(dataclasses.replace(spec(name), timeout_s=30) for name in ("left", "right"))
    report = ran(Plan(specs, "quick", "cli")).report

    assert {one.probe: one.status for one in report.results} == {"left": "pass", "right": "pass"}


def test_devices_run_side_by_side(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each waits for the other's file: one after another neither would end."""
    monkeypatch.setattr(cgroup, "cores", lambda: 2)
    each = '{{"name": "cpu:{0}", "type": "cpu", "index": {0}, "uuid": "GPU-{0}"}}'
    both = ", ".join(each.format(index) for index in range(2))
    surveyed(folder, f"    return {{'devices': [{both}], 'hardware': []}}")
    meet = """
    open(f"FOLDER/{device}", "w").close()
    deadline = time.monotonic() + 60
    while len(os.listdir("FOLDER")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
    met = tmp_path / "met"
    met.mkdir()
    write(folder, "first", meet.replace("FOLDER", str(met)))
    meeting = dataclasses.replace(spec("first"), timeout_s=90)
    report = ran(Plan((meeting,), "quick", "cli")).report

    assert {one.device: one.status for one in report.results} == {"cpu:0": "pass", "cpu:1": "pass"}
