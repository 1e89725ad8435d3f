"""Packages beside torch: those that fit, those that do not, and an operator that is wrong."""

import sys
from pathlib import Path
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
        ("0.29.0.dev20261120", "==2.14.0.dev20261120", "2.14.0.dev20261120+cu130", "pass"),
        ("0.29.0.dev20261120", "==2.14.0.dev20261120", "2.14.0.dev20261121+cu130", "warn"),
        ("0.26.0", "==2.11.0", "2.11.0rc3", "pass"),
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
        ("0.23.0+rocm7.0.2.git824e8c87", "2.8.0+rocm7.0.2.git245bf6ed", "pass"),
        ("0.23.0+rocm7.0.2.git824e8c87", "2.8.0+rocm7.1.git245bf6ed", "warn"),
        ("0.23.0+rocm6.4", "2.8.0+rocm6.4.1", "warn"),
        ("0.23.0+cu128", "2.8.0+cu128.with.pypi.cudnn", "pass"),
        ("0.23.0+cpu", "2.8.0+cpu.cxx11.abi", "pass"),
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


ODD_REQUIREMENT = b'Requires-Dist: torch==1.0; nonsense > "1"\n'
METADATA = {
    "no text": (b"\xff\xfe\x00", "of an unknown version", ""),
    "nothing": (b"", "of an unknown version", ""),
    "no version": (b"Metadata-Version: 2.1\nName: torchvision\n", "of an unknown version", ""),
    "a marker that nobody knows": (
        b"Metadata-Version: 2.1\nName: torchvision\nVersion: 0.26.0\n" + ODD_REQUIREMENT,
        "0.26.0",
        "",
    ),
    "another spelling": (
        b"Metadata-Version: 2.1\nName: torchvision\nVersion: 0.26.0\nRequires-Dist: Torch==1.0\n",
        "0.26.0",
        "==1.0",
    ),
}


@pytest.mark.parametrize(("text", "version", "needs"), METADATA.values(), ids=METADATA)
def test_metadata_that_is_broken_ends_no_probe(
    text: bytes, version: str, needs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it does not say is not known."""
    folder = tmp_path / "torchvision-0.26.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_bytes(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    assert probe.installed("torchvision") == version
    assert probe._needs("torchvision")[0] == needs


@pytest.mark.parametrize(
    "error",
    [
        *("KeyError('x')", "NameError('x')", "AssertionError()", "SyntaxError('x')"),
        *("SystemExit(1)", "ZeroDivisionError()", "IndexError()", "UserWarning('x')"),
    ],
)
def test_whatever_an_import_raises_is_a_warning(
    error: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package that no job may use drains no node; and none ends this process."""
    (tmp_path / "torchaudio.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "installed", {"torchaudio": "2.11.0"}.get)
    monkeypatch.setattr(probe, "requirements", lambda _: [])

    assert tripped(judged(probe.observe("cpu")).values()) == {"companions.imports"}


def test_operators_that_cannot_be_imported_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As is what they raise, whatever it is."""
    vision = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    monkeypatch.setattr(probe, "installed", {"torchvision": "0.26.0"}.get)
    monkeypatch.setattr(probe, "requirements", lambda _: [])

    assert tripped(judged(probe.observe("cpu")).values()) == {"companions.nms"}


def test_two_installations_in_one_folder_are_told() -> None:
    """The metadata is of one, and the module of the other."""
    (one,) = image().companions
    other = one.model_copy(update={"imported": "0.25.1+cpu"})
    same = one.model_copy(update={"imported": "0.26.0a0+abc123"})

    assert tripped(judged(image(companions=(other,))).values()) == {"companions.requirements"}
    assert tripped(judged(image(companions=(same,))).values()) == set()


def test_an_import_that_raises_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """As a warning, and nothing is computed with it."""
    (tmp_path / "torchaudio.py").write_text("raise OSError('libtorch.so: undefined symbol')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "installed", {"torchaudio": "2.11.0"}.get)
    found = judged(probe.observe("cpu"))

    assert found["imports"].status == "warn"
    assert "OSError: libtorch.so: undefined symbol" in found["imports"].message
    assert found["nms"].status == "skip"
