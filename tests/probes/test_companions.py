"""Packages beside torch: those that fit, those that do not, and an operator that is wrong."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from probes.catalog import COMPANIONS
from probes.companions import probe
from probes.companions.faults import FAULTS
from probes.companions.probe import Companion
from probes.contract import Finding, Status
from tests.probes.under_fault import tripped_by_fault
from tests.probes.verdicts import ids, tripped


def judged(observation: probe.Observation) -> dict[str, Finding]:
    """The findings by check."""
    found = list(probe.judge(observation))
    assert ids(found) == set(COMPANIONS.check_ids)
    return {finding.id.partition(".")[2]: finding for finding in found}


def image(
    version: str = "0.26.0", needs: str = "==2.11.0", own: str = "2.11.0+cu130", **fields: Any
) -> probe.Observation:
    """An image with torchvision."""
    vision = Companion(
        name="torchvision", version=version, needs=needs, needed_by="torchvision", error=""
    )
    return probe.Observation(**{"torch": own, "companions": (vision,), "kept": (0, 2), **fields})


def test_this_image_is_sound() -> None:
    """Whatever is installed here."""
    assert tripped(judged(probe.observe("cpu")).values()) == set()


def test_nothing_installed_is_skipped() -> None:
    """Most images of language models have none of them."""
    found = judged(probe.Observation(torch="2.11.0"))

    assert {one.status for one in found.values()} == {"skip"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_its_check_alone(fault: Any) -> None:
    """In a process of its own."""
    assert tripped_by_fault("companions")[fault.name] == set(fault.trips)


@pytest.mark.parametrize(
    ("version", "needs", "own", "status"),
    [
        ("0.26.0+cu130", "==2.11.0", "2.11.0+cu130", "pass"),
        ("0.26.0", "==2.11.0", "2.11.0a0+gitabc", "pass"),
        ("0.26.0", "==2.11.0", "2.10.0+cu130", "warn"),
        ("0.26.0", ">=2.2,<3", "2.10.0", "pass"),
        ("0.26.0", "", "2.10.0", "pass"),
        ("no version", "==2.11.0", "a nightly of ours", "pass"),
    ],
)
def test_requirements(version: str, needs: str, own: str, status: Status) -> None:
    """Of release numbers; builds of vendors have parts of their own."""
    assert judged(image(version, needs, own))["requirements"].status == status


def test_what_torch_requires_counts_too() -> None:
    """Triton is named by torch."""
    triton = Companion(name="triton", version="3.5.0", needs="==3.6.0", needed_by="torch")
    right = triton.model_copy(update={"version": "3.6.0+git123"})

    assert tripped(judged(image(companions=(triton,), kept=None)).values()) == {
        "companions.requirements"
    }
    assert tripped(judged(image(companions=(right,), kept=None)).values()) == set()


@pytest.mark.parametrize(
    ("version", "own", "status"),
    [
        ("0.26.0+cu130", "2.11.0+cu130", "pass"),
        ("0.26.0+cpu", "2.11.0+cu130", "warn"),
        ("0.26.0+cu128", "2.11.0+cu130", "warn"),
        ("0.26.0", "2.11.0+cu130", "pass"),
        ("0.26.0+1234abc", "2.11.0+cu130", "pass"),
        ("0.26.0+cu130", "2.11.0a0+nv25.10", "pass"),
    ],
)
def test_builds(version: str, own: str, status: Status) -> None:
    """Where both say what they are built for."""
    assert judged(image(version, "==2.11.0", own))["builds"].status == status


@pytest.mark.parametrize(
    ("kept", "status"), [((0, 2), "pass"), ((0, 1, 2), "fail"), ((2, 0), "fail"), ((), "fail")]
)
def test_the_boxes_that_are_kept(kept: tuple[int, ...], status: Status) -> None:
    """Order counts: by falling score."""
    assert judged(image(kept=kept))["nms"].status == status


def test_the_operator_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in torchvision's place: its answer, and what it raises."""
    vision, operations = ModuleType("torchvision"), ModuleType("torchvision.ops")
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.ops", operations)
    monkeypatch.setattr(probe, "installed", {"torchvision": "0.26.0"}.get)
    operations.nms = lambda boxes, scores, overlap: torch.arange(3)[:2]  # type: ignore[attr-defined]
    wrong = judged(probe.observe("cpu"))["nms"]

    def missing(*_: Any) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    operations.nms = missing  # type: ignore[attr-defined]
    raised = judged(probe.observe("cpu"))["nms"]

    assert (wrong.status, wrong.observed) == ("fail", [0, 1])
    assert (raised.status, "does not exist" in raised.message) == ("warn", True)


def test_an_import_that_raises_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """As a warning, and nothing is computed with it."""
    (tmp_path / "torchaudio.py").write_text("raise OSError('libtorch.so: undefined symbol')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "installed", {"torchaudio": "2.11.0"}.get)
    found = judged(probe.observe("cpu"))

    assert found["imports"].status == "warn"
    assert "OSError: libtorch.so: undefined symbol" in found["imports"].message
    assert found["nms"].status == "skip"
