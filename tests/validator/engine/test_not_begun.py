"""A process that is held up before its probe begins says nothing of torch or of a device."""

from pathlib import Path

import pytest

from probes.contract import ProbeSpec
from tests.validator.runs import PLAN, ran, write
from validator.engine import job
from validator.engine.plan import Event
from validator.report import Report

pytestmark = [pytest.mark.torch, pytest.mark.slow]

#: In a forked child, before it does anything: it hangs as often as there are files to take away.
HANGS = """
import os, time

def hang():
    for name in ("first", "second", "third", "fourth"):
        try:
            os.unlink("{folder}/" + name)
        except FileNotFoundError:
            continue
        time.sleep(600)

os.register_at_fork(after_in_child=hang)
"""


@pytest.fixture
def hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file has a child hang before its first probe."""
    monkeypatch.setattr(job, "START_S", 1.0)
    for name in ("earlier", "sicken", "later", "host"):
        write(folder, name)
    (folder / "sitecustomize.py").write_text(HANGS.replace("{folder}", str(folder)))
    return folder


def report(folder: Path, specs: tuple[ProbeSpec, ...], *names: str) -> Report:
    """That of a run whose children hang from the survey on."""

    def note(event: Event) -> None:
        if event.kind == "surveyed":
            for name in names:
                (folder / name).touch()

    made = ran(type(PLAN)(specs, "quick", "cli"), on_event=note).report
    assert not [name for name in names if (folder / name).exists()], "no child has hung"
    return made


def arm(folder: Path, *names: str) -> list[str]:
    """What was said of the one probe of such a run."""
    (result,) = report(folder, PLAN.specs[:1], *names).results
    return [result.status, str(result.reason), result.summary]


def test_once_it_is_run_again(hangs: Path) -> None:
    """The second process is the one that is judged."""
    assert arm(hangs, "first")[0] == "pass"


def test_twice_it_is_an_error(hangs: Path) -> None:
    """No node is drained for a disk that its image is read from."""
    assert arm(hangs, "first", "second") == [
        "error",
        "internal_error",
        "no result within 1 s: its process never came to it",
    ]


def test_two_probes_in_a_row_are_enough(hangs: Path) -> None:
    """A host that answers nothing does not cost every probe its two starts."""
    made = report(hangs, PLAN.specs[:3], "first", "second", "third", "fourth")

    assert [(one.probe, one.status) for one in made.results] == [
        ("earlier", "error"),
        ("sicken", "error"),
    ]
    assert [(one.probe, one.reason) for one in made.not_run] == [("later", "device_hangs")]
