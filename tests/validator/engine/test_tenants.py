"""Who comes to a GPU while heavy probes load it: they leave it; light ones and a burn stay."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from probes.catalog import MATMUL
from probes.contract import ProbeSpec
from tests import fakes
from tests.validator.engine.test_run import surveyed
from tests.validator.runs import Ran, marked, ran, spec, write
from validator.engine import job, outcomes, processes, tenants
from validator.engine.breadcrumb import Breadcrumb
from validator.engine.context import RunContext
from validator.engine.ends import GiveWay
from validator.engine.held_up import Progress
from validator.engine.job import Job
from validator.engine.plan import Event, Plan
from validator.engine.tenants import Tenants
from validator.report import CPU, Device, GpuProcess
from validator.settings.loading import load

#: The fake driver's first GPU; the CPU computes in its place.
UUID = "GPU-00010203-0405-0607-0809-0a0b0c0d0e00"
GPU = f'{{"name": "cpu:0", "type": "cpu", "index": 0, "uuid": "{UUID}", "process_count": 0}}'

#: A process that is none of ours, and always there.
STRANGER = 1

#: What a probe does when somebody comes to its GPU, and then.
CAME = "    open(os.environ['FAKE_NVML_PROCESSES_FILE'], 'w').write('{}')\n"
COMES = CAME.format(STRANGER)
STAYS = "    time.sleep(30)"

BUSY = ("skip", "gpu_busy")


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake drivers."""
    return fakes.build(tmp_path_factory.mktemp("drivers"))


@pytest.fixture
def gpu(folder: Path, drivers: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GPU that NVML knows and nobody uses; the folder of its probes."""
    file = folder / "processes"
    file.write_text("", encoding="utf-8")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(drivers))
    monkeypatch.setenv("FAKE_NVML_PROCESSES_FILE", str(file))
    monkeypatch.setattr(processes, "numbered_as_by_the_host", lambda: True)
    monkeypatch.setattr(tenants, "PATIENCE_S", 0.0)
    surveyed(folder, f"    return {{'devices': [{GPU}], 'hardware': []}}")
    return folder


def heavy(name: str) -> ProbeSpec:
    """A probe of the test's own that loads its device."""
    return replace(spec(name), profile="deep", timeout_s=60, alone=True)


def verdicts(seen: Ran) -> list[tuple[str, str, str]]:
    """Probe, status and reason of each result."""
    return [(one.probe, one.status, one.reason) for one in seen.report.results]


def test_two_answers_and_a_kill_fit_into_a_second() -> None:
    """Who comes is there in two answers; then a probe is told, and says what it has seen wrong."""
    assert 2 * tenants.EVERY_S <= 0.7
    assert 2 * tenants.EVERY_S + job._LAST_WORDS_S < 1.0


@pytest.mark.torch
@pytest.mark.slow
def test_a_heavy_probe_leaves_its_gpu_to_a_tenant_who_comes(gpu: Path) -> None:
    """Its child is ended; it and those that follow are skipped and say who; others go on."""
    write(gpu, "first", COMES + STAYS)
    write(gpu, "later", "    raise RuntimeError('not started')")

    seen = ran(Plan((heavy("first"), heavy("later"), spec("host", "host")), "deep", "cli"))

    assert verdicts(seen) == [
        ("first", "skip", "gpu_busy"),
        ("later", "skip", "gpu_busy"),
        ("host", "pass", "ok"),
    ]
    name = Path(f"/proc/{STRANGER}/comm").read_text(encoding="utf-8").strip()
    who = f"1 other process came to it: {name} (pid {STRANGER}, 1 MiB)"
    assert seen.of("first").summary == f"{who}; the probe has left it to them"
    assert seen.of("later").summary == who
    assert 0.3 < seen.of("first").duration_s < 5


@pytest.mark.torch
@pytest.mark.slow
def test_a_light_probe_and_a_burn_stay(gpu: Path) -> None:
    """A light one disturbs nobody; whoever burns has decided."""
    for name in ("light", "burning"):
        write(gpu, name, COMES + "    time.sleep(1.5)")
    light = replace(spec("light"), timeout_s=60)

    beside = ran(Plan((light,), "quick", "cli"))
    events: list[Event] = []
    plan = Plan((heavy("burning"),), "deep", "cli", gives_way=False)
    burn = ran(plan, on_event=events.append)
    told = [event.numbers for event in events if event.kind == "sampled"]

    assert verdicts(beside) == [("light", "pass", "ok")]
    assert verdicts(burn) == [("burning", "pass", "ok")]
    assert [event.kind for event in events].count("started") == 1  # nothing has interrupted it
    assert len(told) >= 3
    assert told[0] == {"power_w": 345.6, "clock_mhz": 1755.0}  # this driver tells no temperature


@pytest.mark.torch
@pytest.mark.slow
def test_our_own_processes_are_no_tenants(gpu: Path) -> None:
    """The probe's process, and one that it has started."""
    body = "import subprocess\n    child = subprocess.Popen(['sleep', '30'])\n"
    write(gpu, "first", f"    {body}{CAME}    time.sleep(1.5)".replace("'{}'", _OWN))

    seen = ran(Plan((heavy("first"),), "deep", "cli"))

    assert verdicts(seen) == [("first", "pass", "ok")]


_OWN = "f'{os.getpid()},{child.pid}'"


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("listed", "status", "text"),
    [
        ("4001", "pass", ""),
        ("4001,4002", "skip", "1 other process came to it: 2 are there, and of ours 1"),
    ],
)
def test_in_a_container_processes_are_counted(
    gpu: Path, monkeypatch: pytest.MonkeyPatch, listed: str, status: str, text: str
) -> None:
    """There the driver tells ids of the host, of which nobody knows whose they are."""
    monkeypatch.setattr(processes, "numbered_as_by_the_host", lambda: False)
    write(gpu, "first", CAME.format(listed) + "    time.sleep(1.5)")

    seen = ran(Plan((heavy("first"),), "deep", "cli"))

    assert seen.of("first").status == status
    assert text in seen.of("first").summary


#: Wrong at once, and when its check is made again there is a tenant.
WRONG_THEN_TENANT = """
    if os.path.exists("tried"):
        open(os.environ['FAKE_NVML_PROCESSES_FILE'], 'w').write('1')
        time.sleep(30)
    open("tried", "w").close()
    return Seen(total=0)
"""


@pytest.mark.torch
@pytest.mark.slow
def test_a_failure_that_was_told_stays_one(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant who comes while it is classified takes nothing back."""
    monkeypatch.chdir(gpu)
    write(gpu, "first", WRONG_THEN_TENANT)

    seen = ran(Plan((heavy("first"),), "deep", "cli"))

    assert verdicts(seen) == [("first", "fail", "check_failed")]


#: A tenant comes in its first try, and leaves when that was ended; or comes again.
COMES_AND_LEAVES = """
    users, tried = os.environ['FAKE_NVML_PROCESSES_FILE'], os.path.exists("tried")
    open("tried", "w").close()
    if not tried:
        script, of_nobody = f"sleep 1.5; : > {users}", {"PATH": os.environ["PATH"]}
        subprocess.Popen(["sh", "-c", script], start_new_session=True, env=of_nobody)
    if not tried or AGAIN:
        open(users, 'w').write('1')
        time.sleep(30)
"""


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("again", "verdict"), [(False, ("pass", "ok")), (True, ("skip", "gpu_busy"))]
)
def test_who_leaves_soon_is_waited_for(
    gpu: Path, monkeypatch: pytest.MonkeyPatch, *, again: bool, verdict: tuple[str, str]
) -> None:
    """Another validator's light probes, in a container: the probe is tried once more, and once."""
    monkeypatch.setattr(tenants, "PATIENCE_S", 8.0)
    monkeypatch.chdir(gpu)
    body = COMES_AND_LEAVES.replace("AGAIN", str(again))
    write(gpu, "first", f"    import subprocess{body}")

    seen = ran(Plan((heavy("first"),), "deep", "cli"))

    assert verdicts(seen) == [("first", *verdict)]


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(("patience_s", "verdict"), [(8.0, ("pass", "ok")), (0.0, BUSY)])
def test_who_was_there_before_is_waited_for(
    gpu: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float, verdict: tuple[str, str]
) -> None:
    """They leave while the run starts; where they stay it is said who was there before it."""
    monkeypatch.setattr(tenants, "PATIENCE_S", patience_s)
    (gpu / "processes").write_text(str(STRANGER), encoding="utf-8")
    known = GPU.replace('"process_count": 0', '"process_count": 1')
    surveyed(gpu, f"    return {{'devices': [{known}], 'hardware': []}}")
    write(gpu, "light", "    open(os.environ['FAKE_NVML_PROCESSES_FILE'], 'w')" * (patience_s > 0))
    write(gpu, "first")

    seen = ran(Plan((spec("light"), heavy("first")), "deep", "cli"))

    assert verdicts(seen) == [("light", "pass", "ok"), ("first", *verdict)]
    if verdict == BUSY:
        assert "1 other process on it, and a deep probe would" in seen.of("first").summary


#: Its first operation is wrong or not; then a tenant comes, and others follow.
FAMILY = """
import os, time
from probes.kit import families
from probes.kit.trial import Custom, fact

def _first(_):
    yield fact("first", {first}, 1)
    open(os.environ["FAKE_NVML_PROCESSES_FILE"], "w").write("1")

def _later(_):
    time.sleep(0.1)
    yield fact("later", 1, 1)

def observe(device):
    trials = [Custom("first", _first), *(Custom("later", _later) for _ in range(300))]
    return families.observe({{"sum": lambda _: trials, "rest": lambda _: trials}}, device)

def judge(seen):
    for check in ("sum", "rest"):
        yield families.family_finding(f"sums.{{check}}", seen)
"""


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "verdict"), [(0, ("fail", "check_failed")), (1, ("skip", "gpu_busy"))]
)
def test_what_was_wrong_before_a_tenant_came_is_told(
    gpu: Path, first: int, verdict: tuple[str, str]
) -> None:
    """Whoever comes hides no failure; nothing is told of what was not tried."""
    (gpu / "sums.py").write_text(FAMILY.format(first=first), encoding="utf-8")
    own = replace(heavy("sums"), checks={"sum": "right", "rest": "right"})

    seen = ran(Plan((own,), "deep", "cli"), load(flags={"expect": {"unproven": "fail"}}))
    result = seen.of("sums")

    assert verdicts(seen) == [("sums", *verdict)]
    assert result.duration_s < 5
    if first != 1:
        told = {each.id.partition(".")[2]: each for each in result.findings}
        assert told["sum"].status == "fail"
        assert told["rest"].status == "skip"
        assert told["rest"].message == "the GPU is busy: others came to it"


NO_MEMORY = "    raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')"


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("comes", "gives_way", "verdict"),
    [
        (COMES, True, ("skip", "gpu_busy")),
        (COMES, False, ("skip", "gpu_busy")),
        ("", True, ("fail", "torch_raised")),
    ],
)
@pytest.mark.parametrize("profile", ["quick", "deep"])
def test_memory_that_a_tenant_took_is_nobodys_fault(
    gpu: Path,
    comes: str,
    gives_way: bool,  # noqa: FBT001
    verdict: tuple[str, str],
    profile: Any,
) -> None:
    """Who came after the survey is asked for when memory lacks; where nobody did it is a fail."""
    write(gpu, "first", comes + NO_MEMORY)
    own = replace(heavy("first"), profile=profile)

    seen = ran(Plan((own,), profile, "cli", gives_way=gives_way))

    assert verdicts(seen) == [("first", *verdict)]
    if comes:
        assert "1 other process came to it" in seen.of("first").summary


@pytest.mark.torch
@pytest.mark.slow
def test_a_driver_that_hangs_costs_the_watch_alone(
    gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe goes on unwatched, which is said; no process is left."""
    monkeypatch.setattr(tenants, "_ANSWER_S", 0.3)
    monkeypatch.setenv("FAKE_NVML_HANG_FILE", str(gpu / "processes"))
    write(gpu, "first", "    time.sleep(2.5)")
    events: list[Event] = []

    seen = ran(Plan((heavy("first"),), "deep", "cli"), on_event=events.append)

    assert verdicts(seen) == [("first", "pass", "ok")]
    told = [(event.device, event.text) for event in events if event.kind == "unwatched"]
    assert told == [("cpu:0", "nobody is seen there: NVML gave no answer within 0.3 s")]


@pytest.mark.torch
@pytest.mark.slow
def test_a_check_of_the_command_line_leaves_too(gpu: Path) -> None:
    """At admission as in the daemon: the run is the same."""
    # Two: where only a count is known, one of them is taken for the probe's own.
    (gpu / "processes").write_text(f"{STRANGER},{STRANGER + 1}", encoding="utf-8")
    argv = ("--profile", "deep", "--probe", "memory_full", "--output", "json")
    done = subprocess.run(
        [sys.executable, "-m", "validator", "check", *argv],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": f"{gpu}{os.pathsep}{Path(__file__).parents[3]}"},
    )
    (result,) = json.loads(done.stdout)["results"]

    assert done.returncode == 2
    assert (result["status"], result["reason"]) == ("skip", "gpu_busy")
    assert "came to it" in result["summary"]
    assert marked() == []


# ---- without processes


DEVICE = Device(name="cuda:0", type="cuda", uuid=UUID, process_count=0)


class Listener:
    """Stands for a child: remembers what it is told."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.told: list[str] = []

    def ask_to_leave(self, who: str) -> None:
        """Remember it."""
        self.told.append(who)


def answered(*answers: list[int], own: int = 50) -> tuple[list[str], list[str]]:
    """Who is there after each answer, and what a heavy child was told."""
    nobody: Any = None
    watched = Tenants(nobody, {}, lambda _: None)
    watch = watched._watches[DEVICE.name] = tenants._Watch()
    child: Any = Listener(own)
    watched.enter(DEVICE, child, heavy=True)
    seen = []
    for pids in answers:
        users = [GpuProcess(pid=pid).model_dump() for pid in pids]
        use = {"processes": users, **dict.fromkeys(tenants.NUMBERS)}
        watched._take(DEVICE, watch, use)
        seen.append(watched.who(DEVICE))
    return seen, child.told


@pytest.mark.parametrize("of_the_host", [True, False])
def test_only_who_stays_has_come(monkeypatch: pytest.MonkeyPatch, *, of_the_host: bool) -> None:
    """Once is a look, twice is a tenant; a child is told once; and it ends when they leave."""
    monkeypatch.setattr(processes, "numbered_as_by_the_host", lambda: of_the_host)
    monkeypatch.setattr(processes, "count_on_gpus", len)
    seen, told = answered([50], [50, 1], [50], [50, 1], [50, 1], [50, 1], [50], [])

    assert [bool(who) for who in seen] == [False] * 4 + [True] * 2 + [False] * 2
    assert len(told) == 1


def test_a_process_of_ours_that_has_just_ended_is_none_who_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer may come after its end."""
    monkeypatch.setattr(processes, "numbered_as_by_the_host", lambda: False)
    nobody: Any = None
    watched = Tenants(nobody, {}, lambda _: None)
    watch = watched._watches[DEVICE.name] = tenants._Watch()
    watch.more = 1
    child: Any = Listener(50)
    watched.enter(DEVICE, child, heavy=True)
    watched.leave(DEVICE, child)
    use = {"processes": [{"pid": 50}], **dict.fromkeys(tenants.NUMBERS)}
    watched._take(DEVICE, watch, use)

    assert watched.who(DEVICE) == ""


def test_a_process_of_ours_on_two_gpus_is_none_who_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container: on a GPU beside its own it is one more there, and none more in all."""
    monkeypatch.setattr(processes, "numbered_as_by_the_host", lambda: False)
    monkeypatch.setattr(processes, "count_on_gpus", len)
    nobody: Any = None
    watched = Tenants(nobody, {}, lambda _: None)
    gpus = [DEVICE, DEVICE.model_copy(update={"name": "cuda:1"})]
    watches = [tenants._Watch(), tenants._Watch()]
    for number, (device, watch) in enumerate(zip(gpus, watches, strict=True)):
        watched._watches[device.name] = watch
        child: Any = Listener(STRANGER + 5_000_000 + number)
        watched.enter(device, child, heavy=True)

    def answer(number: int, *pids: int) -> None:
        use = {"processes": [{"pid": pid} for pid in pids], **dict.fromkeys(tenants.NUMBERS)}
        watched._take(gpus[number], watches[number], use)

    for _ in range(3):
        answer(0, 70, 71)
        answer(1, 71)
    ours = [watched.who(device) for device in gpus]
    for _ in range(2):
        answer(0, 70, 71, 99)
        answer(1, 71)
    theirs = [watched.who(device) for device in gpus]

    assert ours == ["", ""]
    assert theirs == ["1 other process came to it: 3 are there, and of ours 2", ""]


def test_a_child_that_enters_is_told_of_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was forked while they came."""
    monkeypatch.setattr(processes, "numbered_as_by_the_host", lambda: True)
    nobody: Any = None
    watched = Tenants(nobody, {}, lambda _: None)
    watch = watched._watches[DEVICE.name] = tenants._Watch()
    watch.who = "somebody"
    late: Any = Listener(51)
    light: Any = Listener(52)
    watched.enter(DEVICE, late, heavy=True)
    watched.enter(DEVICE, light, heavy=False)

    assert (late.told, light.told) == (["somebody"], [])


async def waited(watch: tenants._Watch, *answers: str, after: int = 0) -> tuple[str, int]:
    """Who stays, after these answers of a second each; and how many of them were waited for."""
    nobody: Any = None
    watched = Tenants(nobody, {}, lambda _: None)
    watched._watches[DEVICE.name] = watch
    waiting = asyncio.ensure_future(watched.wait_until_left(DEVICE, after=after))
    for number, who in enumerate(answers):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if waiting.done():
            return waiting.result(), number
        watch.others_s += bool(watch.who)
        watch.who, watch.answers = who, watch.answers + 1
        watch.answered.set()
        await asyncio.sleep(0.3)
    return await asyncio.wait_for(waiting, 5), len(answers)


def test_all_waits_of_a_run_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes and goes, again and again, is not waited for any longer in the end."""
    monkeypatch.setattr(tenants, "PATIENCE_S", 3.0)

    async def go() -> list[tuple[str, int]]:
        watch = tenants._Watch()
        first = await waited(watch, "", "", after=2)
        watch.who = "a"
        second = await waited(watch, "a", "")
        watch.who = "b"
        return [first, second, await waited(watch, "b", "b", "b")]

    assert asyncio.run(go()) == [("", 2), ("", 2), ("b", 1)]


@pytest.mark.parametrize("change", [{"uuid": None}, {"process_count": None}])
def test_what_nvml_does_not_know_is_not_watched(change: dict[str, None]) -> None:
    """No process is started for it."""
    nobody: Any = None
    watched = Tenants(nobody, {}, lambda _: None)

    assert asyncio.run(watched.ask(DEVICE.model_copy(update=change))) == ""


def test_the_processes_of_a_tree_are_found() -> None:
    """Of this process: itself and its child, and not the first of all."""
    child = subprocess.Popen(["sleep", "30"])
    try:
        found = processes.descendants([os.getpid()])
    finally:
        child.kill()
        child.wait()

    assert {os.getpid(), child.pid} <= found
    assert STRANGER not in found


def test_who_may_use_a_gpu_has_its_driver_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All may, where the driver has no such file; else those that have it open."""
    file = tmp_path / "driver"
    monkeypatch.setattr(processes, "_CUDA", str(file))
    assert processes.count_on_gpus([os.getpid(), STRANGER]) == 2

    file.touch()
    own = processes.count_on_gpus([os.getpid()])
    with file.open(encoding="utf-8"):
        opened = processes.count_on_gpus([os.getpid(), 4_000_000])

    assert (own, opened) == (0, 1)


# ---- a job without processes


class Leaving:
    """Stands for a child that must leave and its worker: it has told these lines, or does then."""

    def __init__(self, *lines: dict[str, str], is_wrong: bool = False) -> None:
        self._lines = [json.dumps(line).encode() for line in lines]
        self._is_wrong = is_wrong
        self.pid, self.asked, self.ended = 50, False, False

    def has_seen_wrong(self) -> bool:
        """As its page says."""
        return self._is_wrong

    def ask_to_tell(self) -> None:
        """Remember it."""
        self.asked = True

    async def next(self, _: float) -> bytes | None:
        """What it told: before its end only where it was asked."""
        return self._lines.pop(0) if self._lines and (self.asked or self.ended) else None

    def log_tail(self, _: str) -> str:
        """Nothing."""
        return ""

    def breadcrumb(self) -> Breadcrumb:
        """No place."""
        return Breadcrumb()

    async def end(self, *_: object) -> bool:
        """It ends."""
        self.ended = True
        return True

    async def reap(self, _: object) -> None:
        """Nothing."""

    def forget(self, _: object) -> None:
        """Nothing."""


def told(status: Any, kind: str = "result") -> dict[str, str]:
    """A line with a result of `matmul`."""
    reason: Any = "ok" if status == "pass" else "check_failed"
    made = outcomes.make_result(MATMUL, DEVICE, status, reason, "told", check="shapes")
    return {kind: made.model_dump_json(), "retries_on": DEVICE.name}


@pytest.mark.parametrize(
    ("lines", "is_wrong", "verdict"),
    [
        ([], False, ("skip", "gpu_busy")),
        ([told("pass")], False, ("pass", "ok")),  # it had just come to its end
        ([told("fail")], False, ("fail", "check_failed")),
        ([told("fail", "preliminary")], False, ("fail", "check_failed")),
        ([], True, ("skip", "gpu_busy")),
        ([told("fail")], True, ("fail", "check_failed")),
        ([told("pass")], True, ("skip", "gpu_busy")),  # of what it had tried until then
        ([{"start": "another"}], False, ("skip", "gpu_busy")),
    ],
)
def test_what_a_probe_has_told_when_it_must_leave_counts(
    lines: list[dict[str, str]],
    is_wrong: bool,  # noqa: FBT001 - a table
    verdict: tuple[str, str],
) -> None:
    """A result that came in the same moment is one; of a part of it only a failure is."""
    nobody: Any = None
    context = RunContext(load(), nobody, {}, lambda _: None)
    job = Job(DEVICE, [MATMUL], 1, context)
    job._left[MATMUL.name] = outcomes.busy(MATMUL, DEVICE, "somebody came before")
    child: Any = Leaving(*lines, is_wrong=is_wrong)
    attempted = job._begin(None)

    came = GiveWay("somebody came")
    asyncio.run(job._take_end(child, child, attempted, came, Progress(os.getpid())))
    result = context.results[MATMUL.name, DEVICE.name]

    assert (result.status, result.reason) == verdict
    assert child.asked is is_wrong
    assert child.ended
    if verdict[0] == "skip":
        assert result.summary == "somebody came; the probe has left it to them"


@pytest.mark.parametrize(("obstacle", "status"), [("", "fail"), ("it waits for a file", "error")])
def test_what_does_not_leave_is_the_drivers_fault_or_a_files(
    monkeypatch: pytest.MonkeyPatch, obstacle: str, status: str
) -> None:
    """The device is held either way, and its node is rebooted for a driver alone."""

    class Staying(Leaving):
        async def end(self, *_: object) -> bool:
            return False

    held: list[str] = []
    monkeypatch.setattr(Progress, "obstacle", lambda self: obstacle)
    monkeypatch.setattr(RunContext, "abandon", lambda *given: held.append(given[3]))
    nobody: Any = None
    context = RunContext(load(), nobody, {}, lambda _: None)
    job = Job(DEVICE, [MATMUL], 1, context)
    child: Any = Staying(is_wrong=False)
    end = job._take_end(
        child, child, job._begin(None), GiveWay("somebody came"), Progress(os.getpid())
    )
    asyncio.run(end)
    result = context.results[MATMUL.name, DEVICE.name]

    assert result.status == status
    assert ("driver" in result.summary) is (status == "fail")
    assert result.findings[0].action == ("reboot_node" if status == "fail" else "fix_config")
    assert held == [DEVICE.name]


@pytest.mark.parametrize(
    ("device", "shared"),
    [
        (DEVICE, False),
        (DEVICE.model_copy(update={"process_count": 2}), True),
        (DEVICE.model_copy(update={"process_count": None}), True),  # NVML does not tell, or AMD
        (CPU, False),
    ],
)
def test_memory_that_lacks_is_no_fault_where_others_may_have_it(
    device: Device,
    shared: bool,  # noqa: FBT001 - a table
) -> None:
    """Only where nobody is known to be there can nobody else have taken it."""
    nobody: Any = None
    job = Job(device, [MATMUL], 1, RunContext(load(), nobody, {}, lambda _: None))

    assert job._request()["shared"] is shared
