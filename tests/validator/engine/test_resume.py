"""A check that kills its process fails by name, and the checks beside it are judged."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from probes.contract import ProbeSpec, Result
from tests.validator.runs import Ran, ran, run, spec, zombies
from validator.engine.plan import Plan
from validator.engine.runner import Runner
from validator.settings import loading

pytestmark = [pytest.mark.slow, pytest.mark.torch]

#: A probe of four checks; what each does stands in for `{name}`.
TEMPLATE = """
import ctypes, os, signal, time
import torch
from probes.contract import Observation, expect
from probes.kit import breadcrumb

class Seen(Observation):
    totals: dict[str, float]

def alpha(device):
    {alpha}
    return 1000.0

def beta(device):
    {beta}
    return 1000.0

def gamma(device):
    {gamma}
    return 1000.0

def delta(device):
    {delta}
    return 1000.0

def observe(device):
    print("about to look", flush=True)
    {before}
    table = dict(alpha=alpha, beta=beta, gamma=gamma, delta=delta)
    return Seen(totals={name: call(device) for name, call in breadcrumb.families(table)})

def judge(seen):
    for name in ("alpha", "beta", "gamma", "delta"):
        yield expect("fragile." + name, seen.totals.get(name), 1000.0)
"""

CRASH = "breadcrumb.operation('sum'); ctypes.string_at(0)"
HANG = "breadcrumb.operation('sum'); time.sleep(600)"
WRONG = "return 7.0"

CHECKS = {name: f"{name} is right" for name in ("alpha", "beta", "gamma", "delta")}


def fragile(timeout_s: float = 20.0) -> ProbeSpec:
    """The probe's place in a catalogue."""
    return replace(spec("fragile"), checks=CHECKS, timeout_s=timeout_s)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of the workers."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def write(folder: Path, **bodies: str) -> None:
    """Write the probe; a check without a body is sound."""
    text = TEMPLATE
    for name in (*CHECKS, "before"):
        text = text.replace(f"{{{name}}}", bodies.get(name, "pass"))
    (folder / "fragile.py").write_text(text)


def result_of(seen: Ran) -> Result:
    """Its one result."""
    assert zombies() == []
    return seen.of("fragile")


def statuses(result: Result) -> dict[str, str]:
    """Check -> status, in the order of the findings."""
    return {finding.id.partition(".")[2]: finding.status for finding in result.findings}


def test_a_check_that_dies_is_named_and_the_rest_is_judged(folder: Path) -> None:
    """One check dies by SIGSEGV: it fails with its operation's name, three others pass."""
    write(folder, beta=CRASH)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert (result.status, result.reason) == ("fail", "crashed")
    assert result.summary == "died by SIGSEGV in fragile.beta: sum; the rest: 3 checks passed"
    assert statuses(result) == {"beta": "fail", "alpha": "pass", "gamma": "pass", "delta": "pass"}
    assert result.findings[0].message == "died by SIGSEGV in sum"
    assert "library crashed" in result.findings[0].hint
    assert "Segmentation fault" in result.log_tail


def test_a_check_that_hangs_is_named_and_the_rest_is_judged(folder: Path) -> None:
    """The same of a hang: the deadline names what it waited for."""
    write(folder, gamma=HANG)

    result = result_of(ran(Plan((fragile(timeout_s=1.5),), "quick", "cli")))

    assert (result.status, result.reason) == ("fail", "timeout")
    assert result.summary.startswith("no result within 1.5 s in fragile.gamma: sum; the rest: 3")
    assert statuses(result)["gamma"] == "fail"
    assert list(statuses(result).values()).count("pass") == 3


def test_a_check_that_is_wrong_beside_one_that_dies_is_told_too(folder: Path) -> None:
    """The rest may have failures of its own: both are findings, the death first."""
    write(folder, beta=WRONG, delta=CRASH)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert (result.status, result.reason) == ("fail", "crashed")
    assert statuses(result) == {"delta": "fail", "alpha": "pass", "beta": "fail", "gamma": "pass"}
    assert "the rest: beta: expected 1000.0, observed 7.0" in result.summary


def test_several_deadly_checks_are_all_named(folder: Path) -> None:
    """Each costs one more process; what they leave is judged."""
    write(folder, alpha=CRASH, gamma=CRASH)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert statuses(result) == {"alpha": "fail", "gamma": "fail", "beta": "pass", "delta": "pass"}
    assert "fragile.alpha: sum and in 1 more" in result.summary


def test_a_probe_that_dies_wherever_it_goes_is_given_up(folder: Path) -> None:
    """Where no check is left that was not deadly, the result says that nothing else was judged."""
    write(folder, alpha=CRASH, beta=CRASH, gamma=CRASH, delta=CRASH)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert statuses(result) == dict.fromkeys(CHECKS, "fail")
    assert result.summary.endswith("in 3 more checks; the rest was not judged")


def test_a_device_that_hangs_gets_one_more_chance_only(folder: Path) -> None:
    """A second hang ends the probe: whole deadlines are dear."""
    write(folder, alpha=HANG, beta=HANG, gamma=HANG)

    result = result_of(ran(Plan((fragile(timeout_s=1.0),), "quick", "cli")))

    assert statuses(result) == {"alpha": "fail", "beta": "fail"}
    assert result.summary.endswith("the rest was not judged")


def test_a_death_outside_all_checks_is_told_as_before(folder: Path) -> None:
    """Nothing is left out for it, and nothing is guessed."""
    write(folder, before=CRASH.partition("; ")[2])

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert (result.status, result.reason) == ("fail", "crashed")
    assert result.summary == "died by SIGSEGV"
    assert statuses(result) == {"completes": "fail"}


def test_a_death_at_a_step_that_belongs_to_no_check_names_the_step(folder: Path) -> None:
    """As the start of a driver: nothing can be left out, so the probe is not run again."""
    write(folder, before=CRASH)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert result.summary == "died by SIGSEGV in fragile: sum"
    assert statuses(result) == {"completes": "fail"}


def test_without_shared_memory_a_death_names_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel or filter without memfd_create costs the name, and no more."""
    write(folder, beta=CRASH)

    def refused(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert (result.status, result.summary) == ("fail", "died by SIGSEGV")


def test_what_comes_after_the_probe_runs_whole(folder: Path) -> None:
    """A check that is left out of one probe is left out of no other, nor of the next run."""
    write(folder, beta=CRASH)
    text = (folder / "fragile.py").read_text().replace("fragile.", "sturdy.")
    (folder / "sturdy.py").write_text(text.replace(CRASH, "pass"))
    sturdy = replace(spec("sturdy"), checks=CHECKS, timeout_s=20.0)

    seen = ran(Plan((fragile(), sturdy), "quick", "cli"))

    assert statuses(seen.of("sturdy")) == dict.fromkeys(CHECKS, "pass")
    assert (seen.of("fragile").status, seen.of("sturdy").status) == ("fail", "pass")


@pytest.mark.long
def test_a_death_is_kept_when_the_run_is_cut_off_while_the_rest_goes_on(folder: Path) -> None:
    """What was decided before the run's own deadline stays decided."""
    write(folder, alpha=CRASH, beta="time.sleep(600)")
    settings = loading.load(flags={"run": {"timeout": 12.0}})

    result = result_of(ran(Plan((fragile(timeout_s=600.0),), "quick", "cli"), settings))

    assert (result.status, result.reason) == ("fail", "crashed")
    assert result.summary == "died by SIGSEGV in fragile.alpha: sum; the rest was not judged"


BACKWARD = """class Deadly(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x.clone()
        @staticmethod
        def backward(ctx, upstream): return ctypes.string_at(0)
    breadcrumb.operation('group_norm channels_last')
    Deadly.apply(torch.ones(3, requires_grad=True)).sum().backward()"""


def test_a_backward_that_dies_in_native_code_is_named(folder: Path) -> None:
    """As GroupNorm's does in channels_last on some CPU builds: from within the engine."""
    write(folder, beta=BACKWARD)

    result = result_of(ran(Plan((fragile(),), "quick", "cli")))

    assert result.summary.startswith("died by SIGSEGV in fragile.beta: group_norm channels_last")
    assert list(statuses(result).values()).count("pass") == 3


def test_one_result_is_told_for_a_probe_that_took_several_processes(
    folder: Path,
) -> None:
    """Whoever counts results counts one."""
    told: list[str] = []
    write(folder, beta=CRASH)
    plan = Plan((fragile(),), "quick", "cli")

    asyncio.run(run(plan, loading.load(), Runner(), lambda event: told.append(event.kind)))

    assert told.count("finished") == 1
