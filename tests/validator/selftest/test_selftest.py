"""`gpu-validator selftest`: real faults in real workers, its verdicts, and that nothing leaks."""

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from probes.catalog import BY_NAME as CATALOGUE
from probes.contract import Finding, Result
from probes.faults.fault import Fault
from probes.faults.inject.processes import _FLOOD_BYTES
from probes.faults.table import BY_NAME, CONTROLS
from tests.validator import reports
from tests.validator.runs import marked
from validator.engine import job, pipes
from validator.engine.stopping import Stop
from validator.engine.workers import Workers
from validator.render.console import plain_console
from validator.report import CPU, Device, make_report
from validator.selftest import choice, injecting, trials, verdicts
from validator.selftest import rendering as render_selftest
from validator.selftest.verdicts import Selftest
from validator.service.latest import Latest
from validator.settings import loading
from validator.settings.model import Settings

pytestmark = [pytest.mark.torch, pytest.mark.slow]

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)

#: One of every kind, cheap ones, and what each comes to.
CHOSEN = (
    *("layer.dropout_alive_in_eval", "sharing.from_numpy_copies", "cuda.error_802"),
    *(
        "process.hangs_holding_the_lock",
        "process.leaves",
        "process.memory_taken",
        "process.crashes",
    ),
    *("import.no_torch", "import.hangs", "training.attention_scaled", "image.nccl_older"),
    *("process.sticky_error", "node.lost_access", "mm.nan.float16"),
)


def ran(*names: str) -> Selftest:
    """A selftest of some faults, and proof that it left no process."""
    options = choice.Options(faults=names)
    selftest = asyncio.run(trials.run_selftest(loading.load(), options, None, Stop()))
    assert marked() == []
    return selftest


@pytest.fixture(scope="module")
def selftest() -> Selftest:
    """One selftest of the chosen faults."""
    return ran(*CHOSEN)


def test_every_fault_is_caught(selftest: Selftest) -> None:
    """By its own checks and for its own reason; what does not apply here is said to."""
    found = {trial.fault: (trial.verdict, trial.text) for trial in selftest.trials}

    assert found == dict.fromkeys(CHOSEN, ("caught", ""))
    assert (selftest.passed, selftest.control) == (True, ())
    assert selftest.summary.endswith("faults caught")


def test_scores_are_counted(selftest: Selftest) -> None:
    """A probe's faults are those that name a check of it; rules of others are scored beside."""
    scores = {score.name: (score.caught, score.faults) for score in selftest.scores}
    rivals = {score.name: (score.caught, score.faults) for score in selftest.rivals}

    assert scores["numpy_sharing"] == (1, 1)
    assert scores["cuda_available"] == (2, 2)
    assert scores["all"][0] == scores["all"][1] == len(CHOSEN)
    assert rivals["gpu-validator"] == (2, 2)
    assert rivals["gpu_burn"] == (0, 2)  # neither spoils a float32 product


def test_a_rule_that_alarms_without_a_fault_is_not_scored(selftest: Selftest) -> None:
    """It would catch everything by saying no to everything."""
    names = {score.name for score in verdicts.rivals(selftest.trials, {"finite"})}

    assert "finite" not in names
    assert "gpu_burn" in names
    assert "finite" in {score.name for score in selftest.rivals}


@pytest.mark.parametrize(
    ("check", "scored"),
    [("autograd.products", True), ("gradcheck.tight", True), ("tensor_ops.matmul_exact", False)],
)
def test_the_rule_for_gradients_is_scored_on_gradients_alone(
    check: str,
    scored: bool,  # noqa: FBT001 - a table
) -> None:
    """In every probe of gradients, whatever its name."""
    fault = dataclasses.replace(BY_NAME["mm.nan.float16"], trips=(check,))
    ended = [reports.result("rivals", findings=(Finding(id="rivals.gradcheck", status="fail"),))]
    alarms = verdicts.rival_alarms(fault, ended)
    trial = verdicts.make_trial(fault, "cpu", (check,), [], rivals=("gradcheck",))

    assert (alarms == ("gradcheck",)) == scored
    assert ("gradcheck" in {score.name for score in verdicts.rivals([trial])}) == scored


def test_forms(selftest: Selftest) -> None:
    """JSON loads again, JUnit counts, text names each fault."""
    console = plain_console()
    again = Selftest.model_validate_json(render_selftest.document(selftest, "json", console))
    junit = ET.fromstring(render_selftest.document(selftest, "junit", console))  # noqa: S314 - ours
    text = render_selftest.document(selftest, "text", console)

    assert again == selftest
    assert junit.get("failures") == "0"
    assert int(junit.get("tests", "0")) == len(selftest.trials) + 1
    for trial in selftest.trials:
        assert trial.fault in text
    assert text.splitlines()[-1].startswith("✓ pass:")


def test_an_injector_that_does_nothing_is_a_survivor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of that name only looks on: what it must trip does not, and that is told."""
    idle = dataclasses.replace(
        BY_NAME["control.idle_operations"],
        kind="operation",
        trips=("train_eval.first_steps",),
        spares=(),
    )
    monkeypatch.setattr(trials, "choose", lambda _: (idle,))
    selftest = ran()
    (trial,) = selftest.trials

    assert (trial.verdict, trial.missed) == ("survived", ("train_eval.first_steps",))
    assert not selftest.passed
    assert "not tripped: train_eval.first_steps" in render_selftest.document(
        selftest, "text", plain_console()
    )
    assert ET.fromstring(render_selftest.junit(selftest)).get("failures") == "1"  # noqa: S314


def result(*tripped: str, reason: Any = "check_failed", **fields: Any) -> Result:
    """A result whose listed checks failed."""
    return Result(
        probe="train_eval",
        device="cpu",
        status="fail",
        reason=reason,
        summary="",
        started_at=NOW,
        duration_s=0.0,
        findings=tuple(Finding(id=check, status="fail") for check in tripped),
        **fields,
    )


FAULT = dataclasses.replace(
    BY_NAME["process.hangs"], trips=("a.b", "a.c"), spares=("a.d",), reason="timeout"
)


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([result("a.b", "a.c", "a.x", reason="timeout")], ""),
        ([result("a.b", reason="timeout")], "not tripped: a.c"),
        ([], "not tripped: a.b, a.c"),
        ([result("a.b", "a.c", "a.d", reason="timeout")], "tripped, and must not: a.d"),
        ([result("a.b", "a.c")], "reason check_failed where timeout is right"),
    ],
)
def test_what_counts_as_caught(results: list[Result], text: str) -> None:
    """All that must trip, none that must not, and the right reason."""
    trial = verdicts.make_trial(FAULT, "cpu", FAULT.trips, results)

    assert (trial.verdict, trial.text) == ("survived" if text else "caught", text)


def test_what_was_not_judged_is_neither_caught_nor_missed() -> None:
    """A check that is skipped under the fault, and an operation that nothing calls here."""
    skip = Finding(id="a.b", status="skip", message="TF32 is allowed")
    skipped = result(reason="not_applicable").model_copy(update={"findings": (skip,)})
    fault = dataclasses.replace(FAULT, reason="")
    unjudged = verdicts.make_trial(fault, "cuda:0", ("a.b",), [skipped])
    uncalled = verdicts.make_trial(FAULT, "cuda:0", ("a.b",), [], reached=False)
    partly = verdicts.make_trial(fault, "cuda:0", ("a.b", "a.c"), [skipped, result("a.c")])

    assert (unjudged.verdict, unjudged.text) == ("elsewhere", "TF32 is allowed")
    assert uncalled.verdict == "elsewhere"
    assert (partly.verdict, partly.missed) == ("caught", ())


@pytest.mark.parametrize(
    ("check", "status", "found"),
    [
        ("layers.frozen_input", "warn", False),
        ("layers.frozen_input", "fail", True),
        ("layers.group_norm", "warn", True),
    ],
)
def test_a_warning_of_a_known_defect_does_not_trip(check: str, status: Any, *, found: bool) -> None:
    """Neither the control nor a fault; its failure does, and so does a warning of another check."""
    one = result().model_copy(update={"findings": (Finding(id=check, status=status),)})

    assert verdicts.tripped([one]) == ([check] if found else [])


@pytest.mark.parametrize(
    ("torch", "too_old"),
    [
        ("2.2.2+cu121", True),
        ("2.9.0a0+50eac811a6.nv25.09", True),
        ("2.9.0", False),
        ("2.13.0+cpu", False),
        ("", False),
        ("master", False),
    ],
)
def test_a_fault_that_an_older_torch_cannot_have(
    torch: str, *, too_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said to be elsewhere, and why; all that can be injected there is."""
    selftest = trials._Selftest(
        Settings(), choice.Options(), Workers(None, nice=0, on_event=print), {}
    )
    selftest._torch = torch
    never = "tried"

    async def under(*_: Any) -> Any:
        raise RuntimeError(never)

    monkeypatch.setattr(selftest._injecting, "under", under)
    for name in ("kernel.raises", "kernel.hangs", "kernel.addmm.scaled", "process.sticky_error"):
        trial = selftest._trial(BY_NAME[name], CPU)
        if too_old and name != "process.sticky_error":
            found = asyncio.run(trial)
            assert found.verdict == "elsewhere"
            assert found.text == f"torch 2.9 and later can be broken so; this is {torch}"
        else:
            with pytest.raises(RuntimeError, match=never):
                asyncio.run(trial)


def test_a_trial_that_ended_before_it_called_anything_is_not_elsewhere() -> None:
    """A probe past its deadline says nothing of the fault, nor of what a device calls."""
    late = result("a.completes", reason="timeout")
    trial = verdicts.make_trial(FAULT, "cuda:0", ("a.b",), [late], reached=False)

    assert (trial.verdict, trial.text) == ("survived", "not tripped: a.b")


def test_the_control_that_raises_fails_the_selftest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a control that really breaks something nothing is proven."""
    broken = dataclasses.replace(BY_NAME["layer.eval_gives_none"], kind="control")
    monkeypatch.setattr(trials, "CONTROLS", (broken,))
    selftest = ran("layer.eval_freezes_parameters")

    assert not selftest.passed
    assert any(text.startswith("train_eval.modes_recurse under") for text in selftest.control)
    assert "healthy control raised" in selftest.summary


def test_the_control_that_prints_is_read_in_time() -> None:
    """Many times what is kept of a log; yet on a busy host each read may wait a tenth of a second.

    Slower than the start of a process may be, a healthy node would raise an alarm.
    """
    assert _FLOOD_BYTES > 100 * pipes._KEPT_BYTES
    assert _FLOOD_BYTES / pipes._CHUNK_BYTES * 0.1 < job.START_S


def test_cut_off_it_leaves_no_process() -> None:
    """Cancelled between two trials, as by Ctrl-C, it ends its worker and all children."""

    async def cut_off() -> None:
        first = asyncio.Event()
        options = choice.Options(
            faults=("layer.eval_gives_none", "process.hangs", "process.hangs_holding_the_lock"),
            on_trial=lambda *_: first.set(),
        )
        running = asyncio.ensure_future(trials.run_selftest(loading.load(), options, None, Stop()))
        await asyncio.wait_for(first.wait(), 60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cut_off())

    assert marked() == []


def test_stopped_it_keeps_what_was_judged() -> None:
    """The verdicts so far, the other faults as not run, no pass, and no process."""
    stop = Stop()

    async def stopped() -> Selftest:
        options = choice.Options(
            faults=("layer.eval_gives_none", "process.hangs", "process.hangs_holding_the_lock"),
            on_trial=lambda *_: stop.take(signal.SIGINT),
        )
        return await trials.run_selftest(loading.load(), options, None, stop)

    selftest = asyncio.run(stopped())
    told = [trial.verdict for trial in selftest.trials]

    assert marked() == []
    assert told.count("caught") == 1
    assert told.count("not_run") == 2
    assert (selftest.passed, selftest.complete) == (False, False)
    assert selftest.summary == "1 of 1 faults caught; stopped before 2 others"
    verdict = render_selftest.text(selftest, plain_console()).splitlines()[-1]
    assert verdict.startswith("? error: 1 of 1 faults caught")  # nothing was found wrong


def test_stopped_before_anything_was_judged_it_says_so() -> None:
    """There is no matrix to show then."""
    stop = Stop()
    stop.take(signal.SIGTERM)
    options = choice.Options(faults=("layer.eval_gives_none",))
    with pytest.raises(trials.CannotRunError, match="stopped by SIGTERM before a fault"):
        asyncio.run(trials.run_selftest(loading.load(), options, None, stop))

    assert marked() == []


# ---- what ran under a fault never speaks for the node


def test_a_report_refuses_it() -> None:
    """`make_report` and the store of the latest results raise, whatever the status."""
    faulty = result(fault="mm.zeros")
    sound = reports.sound()

    with pytest.raises(ValueError, match=r"under the fault mm\.zeros"):
        make_report(run_id="x", trigger="cli", profile="quick", results=[faulty])
    with pytest.raises(ValueError, match=r"under the fault mm\.zeros"):
        Latest().accept(sound.model_copy(update={"results": (faulty,)}))


def test_its_results_carry_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a child made, and those that the supervisor made for it."""
    seen: list[Result] = []

    def record_trial(fault: Fault, device: str, expected: Any, results: Any, **more: Any) -> Any:
        seen.extend(results)
        return verdicts.make_trial(fault, device, expected, results, **more)

    monkeypatch.setattr(trials, "make_trial", record_trial)
    ran("process.leaves", "layer.eval_gives_none", "import.no_torch")

    assert {each.fault for each in seen} == {
        "process.leaves",
        "layer.eval_gives_none",
        "import.no_torch",
    }


def test_the_daemon_has_no_way_to_ask_for_one() -> None:
    """Its modules never load the table, no route and no setting names it, `check` has no flag."""
    program = "import validator.service.daemon, validator.service.api, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    names = json.dumps(Settings.model_json_schema())
    sources = "".join(
        Path("validator", f"{name}.py").read_text(encoding="utf-8")
        for wing, names_of in {
            "service": ("api", "daemon", "server", "schedule"),
            "cli": ("check", "one_run"),
            "engine": ("runner", "run"),
        }.items()
        for name in (f"{wing}/{each}" for each in names_of)
    )

    assert not {"probes.faults", "validator.selftest.trials", "validator.cli.selftest"} & set(
        loaded
    )
    assert "fault" not in names.replace("default", "")
    assert "fault" not in sources.lower().replace("default", "")


# ---- the command


def command(*argv: str, code: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own, or a program that is the command in its place."""
    program = ("-c", code) if code else ("-m", "validator")
    return subprocess.run(
        [sys.executable, *program, "selftest", *argv],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_command(tmp_path: Path) -> None:
    """Exit code 0, the document in its file, the text on stdout."""
    path = tmp_path / "matrix.json"
    done = command(
        "--fault", "layer.eval_gives_none", "--output", "json", "--output-file", str(path)
    )

    assert done.returncode == 0, done.stderr
    assert "layer.eval_gives_none" in done.stdout
    assert json.loads(path.read_text())["passed"] is True


def test_the_command_stopped_writes_what_it_has() -> None:
    """Exit code 2, as whatever is not decided, and the document on stdout."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", STOPPED_BY_ITS_FIRST_TRIAL, "selftest", "--output", "json"),
            *("--fault", "layer.eval_gives_none", "--fault", "process.hangs"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=100)

    assert process.returncode == 2, err
    assert {trial["verdict"] for trial in json.loads(out)["trials"]} == {"caught", "not_run"}
    assert "stopped by SIGINT: 1 of 1 faults caught; stopped before 1 others" in err


@pytest.mark.long
def test_the_command_ends_in_time_with_what_it_has() -> None:
    """`--timeout`: a fault that waits for a long deadline is cut off, the other is told."""
    done = command(
        *("--timeout", "20", "--output", "json"),
        *("--fault", "process.hangs", "--fault", "layer.eval_gives_none"),
        code=SLOW_HANG,
    )

    assert done.returncode == 2, done.stderr
    told = {trial["fault"]: trial["verdict"] for trial in json.loads(done.stdout)["trials"]}
    assert told == {"layer.eval_gives_none": "caught", "process.hangs": "not_run"}
    assert "stopped by --timeout: 1 of 1 faults caught; stopped before 1 others" in done.stderr


#: The command, under which a fault that hangs is waited for longer than anybody has time.
SLOW_HANG = """
import dataclasses, sys
from probes.faults import table
from validator.cli import main as cli
from validator.selftest import choice, trials

def patient(fault):
    return dataclasses.replace(fault, timeout_s=900.0) if fault.timeout_s else fault

chosen = choice.choose
choice.choose = trials.choose = lambda options: tuple(map(patient, chosen(options)))
sys.exit(cli.main())
"""


#: The command, which gets a signal when its first trial is over.
STOPPED_BY_ITS_FIRST_TRIAL = """
import dataclasses, os, signal, sys
from validator.cli import main as cli
from validator.selftest import trials
run = trials.run_selftest

def stopped(settings, options, *others):
    def on_trial(*_):
        os.kill(os.getpid(), signal.SIGINT)
    return run(settings, dataclasses.replace(options, on_trial=on_trial), *others)

trials.run_selftest = stopped
sys.exit(cli.main())
"""


def test_the_list() -> None:
    """Every fault with what it stands for, but those of deep probes; of one probe only its own."""
    listed = json.loads(command("--list", "--output", "json").stdout)
    of_deep = [
        argument
        for spec in CATALOGUE.values()
        if spec.profile == "deep"
        for argument in ("--probe", spec.name)
    ]
    deep = json.loads(command("--list", "--output", "json", *of_deep).stdout)
    of_one = json.loads(command("--list", "--output", "json", "--probe", "numpy_sharing").stdout)

    assert {entry["fault"] for entry in (*listed, *deep)} == {
        fault.name for fault in BY_NAME.values() if fault.kind != "control"
    }
    assert {entry["fault"] for entry in listed}.isdisjoint(entry["fault"] for entry in deep)
    assert {entry["stands_for"] == "" for entry in listed} == {False}
    assert 20 < len(of_one) < len(listed)
    assert "faults:" in command("--list").stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("--fault", "mm.one_bot"), "unknown fault 'mm.one_bot'; did you mean 'mm.one_bit'?"),
        (("--fault", "mm.one_bit", "--probe", "autograd"), "no fault is left"),
        (("--probe", "autogard"), "did you mean 'autograd'?"),
        (("--list", "--output", "junit"), "its forms are text and json"),
        (("--output-file", "/none/x"), "there is no directory /none"),
        (("--timeout", "soon"), "--timeout: 'soon' is no duration"),
        (("--timeout", "0"), "--timeout: '0' is no time above 0"),
    ],
)
def test_wrong_usage(argv: tuple[str, ...], text: str) -> None:
    """The nearest name, and exit code 2."""
    done = command(*argv)

    assert done.returncode == 2
    assert text in done.stderr


def test_it_cannot_run_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is proven then, and the exit code says so."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.12')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = command("--fault", "mm.one_bit")

    assert done.returncode == 2
    assert "the selftest could not run" in done.stderr


def test_a_dear_probe_makes_the_checks_that_its_fault_names_alone() -> None:
    """Those that trip and those that are spared, and the rules that are scored on it."""

    def others(probe: str, *made: str) -> list[str]:
        return [check for check in CATALOGUE[probe].checks if check not in made]

    def left_out(fault: Fault, probe: str) -> dict[str, list[str]]:
        return choice.left_out(fault, [CATALOGUE[probe]])

    rule = {"rivals": ["gradcheck"]}
    of_gradients = BY_NAME["kernel.embedding_dense_backward.one_bit"]
    control = next(fault for fault in CONTROLS if "linalg.completes" in fault.spares)

    assert left_out(BY_NAME["linalg_qr.nan"], "linalg") == {
        "linalg": others("linalg", "decompose"),
        **rule,
    }
    assert left_out(of_gradients, "autograd") == {"autograd": others("autograd", "indexing")}
    assert left_out(BY_NAME["kernel.mm.one_bit"], "numpy_sharing") == rule
    assert left_out(control, "linalg") == {}


def test_the_checks_left_out_are_not_judged() -> None:
    """A join that ignores strides trips `out` too, which that fault does not name."""
    done = ran("layout.cat.strides")

    assert [(trial.verdict, trial.also) for trial in done.trials] == [("caught", ())]


@pytest.mark.parametrize(("known", "own"), [(None, 0), (0, 0), (2, 2)])
def test_nobody_is_on_a_device_but_whom_a_fault_brings(known: int | None, own: int) -> None:
    """Where it is not known who is, memory that is gone would be held by others."""
    device = Device(name="cuda:0", type="cuda", process_count=known)
    counts = {
        name: injecting._as_used(device, BY_NAME[f"process.{name}"]).process_count
        for name in ("memory_gone", "memory_taken")
    }

    assert counts == {"memory_gone": own, "memory_taken": 1}
