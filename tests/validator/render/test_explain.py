"""What `list` and `explain` tell comes from the catalogue and the source, and is whole."""

import dataclasses
import io
from pathlib import Path

import pytest

from probes.catalog import AUTOGRAD, BY_NAME, CATALOG
from probes.contract import Frozen, ProbeSpec
from validator.render import explain
from validator.render.catalogue import duration, render_explanation, render_list
from validator.render.console import console_for

SOURCE = '''"""Gradients are right.

Why: a wrong gradient trains a wrong model: and nobody
     sees it.
Fix: reinstall torch.
Ref: https://example.org/a
     https://example.org/b
"""


class Limits:
    """Thresholds."""

    #: How far a gradient may lie
    #: from its reference.
    error: float = 1e-6
    label: str = "größere Maße"  # of the tiny model
    size: int
'''

PLACED = dataclasses.replace(AUTOGRAD, module="probes.made_up.probe", limits=Frozen)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe's source: its docstring in the package, its limits beside its promises."""
    folder = tmp_path / "probes" / "made_up"
    folder.mkdir(parents=True)
    docstring, limits = SOURCE.split("\n\n\n")
    (folder / "__init__.py").write_text(docstring, encoding="utf-8")
    (folder / "spec.py").write_text(limits, encoding="utf-8")
    monkeypatch.setattr(explain, "_ROOT", tmp_path)


@pytest.mark.usefixtures("source")
def test_docstring_and_limits_are_read() -> None:
    """Each part of the docstring, and each limit with its default and comment."""
    read = explain.read(PLACED)

    assert read.promise == "Gradients are right."
    assert read.why == "a wrong gradient trains a wrong model: and nobody sees it."
    assert read.fix == "reinstall torch."
    assert read.references == ("https://example.org/a", "https://example.org/b")
    assert [dataclasses.astuple(limit) for limit in read.limits] == [
        ("error", "float", "1e-06", "How far a gradient may lie from its reference."),
        ("label", "str", "'größere Maße'", "of the tiny model"),
        ("size", "int", "required", ""),
    ]


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
def test_every_probe_explains_itself(spec: ProbeSpec) -> None:
    """Promise, reason, remedy, references, and a comment beside each limit."""
    read = explain.read(spec)

    assert read.promise.endswith(".")
    assert read.why
    assert read.fix
    assert read.references
    assert all(reference.startswith("https://") for reference in read.references)
    assert [limit.name for limit in read.limits if not limit.about] == []
    assert all(spec.checks.values())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("autogard", "no probe is named 'autogard'; did you mean 'autograd'?"),
        ("Autograd", "no probe is named 'Autograd'; did you mean 'autograd'?"),
        ("cuda_available.kernl", "has no check 'kernl'; did you mean 'cuda_available.kernel'?"),
        ("xyzzy", "no probe is named 'xyzzy'; known: torch_version, cuda_available"),
        ("cuda_availble.kernel", "did you mean 'cuda_available.kernel'?"),
    ],
)
def test_unknown_names(name: str, nearest: str) -> None:
    """A typing error is told with the nearest name."""
    with pytest.raises(explain.UnknownNameError) as caught:
        explain.find(name)

    assert nearest in str(caught.value)


def test_known_names() -> None:
    """A probe; a check; and the one that all probes have."""
    assert explain.find("autograd") == (AUTOGRAD, None)
    assert explain.find("autograd.completes") == (AUTOGRAD, "completes")


@pytest.mark.usefixtures("source")
def test_explanation_of_a_probe() -> None:
    """Everything about a probe, its limits as the settings spell them."""
    text = render_explanation(PLACED, None, console_for(io.StringIO(), width=100))

    assert text.startswith("autograd\n  Gradients are right.\n\nWhy\n  a wrong gradient")
    assert "  probes.autograd.limits.error: float = 1e-06\n      How far a gradient" in text
    assert "autograd.completes\n      the probe runs to its end" in text
    told = " ".join(text.split())
    assert "on each device, every 5m, at most 1m, at most 548 MiB on a GPU" in told
    assert "(NVIDIA H200, torch 2.11.0+cu130)" in told
    assert "made again, twice on the device and once on the CPU, and held against" in told
    assert "they stay failures" in told


@pytest.mark.usefixtures("source")
def test_explanation_of_a_check() -> None:
    """The check's own promise first; no other checks."""
    text = render_explanation(PLACED, "completes", console_for(io.StringIO()))

    assert text.startswith("autograd.completes\n  the probe runs to its end: nothing raises")
    assert "Probe\n  autograd: Gradients are right." in text
    assert "Limits" not in text


def test_a_check_of_the_host_is_made_again_there() -> None:
    """There is no other device to try it on."""
    for spec in (BY_NAME["torch_version"], BY_NAME["numpy_sharing"]):
        text = render_explanation(spec, None, console_for(io.StringIO(), width=200))
        assert "the failed checks are made again, twice: the finding's `triage`" in text


def test_list_fits_80_columns() -> None:
    """A line a probe in the catalogue's order, its promise below."""
    lines = render_list(console_for(io.StringIO(), width=80)).splitlines()
    rows = [line for line in lines[2:] if line.split(" ")[0] in BY_NAME]

    assert max(map(len, lines)) <= 80
    assert [row.split()[0] for row in rows] == [spec.name for spec in CATALOG]
    assert rows[0].split()[1:5] == ["quick", "host", "1m", "5m"]
    assert lines[3].strip() in explain.read(CATALOG[0]).promise


def test_listed_as_data() -> None:
    """What a program reads of a probe."""
    data = explain.list_entry(CATALOG[0])

    assert data["probe"] == "torch_version"
    assert data["checks"]["torch_version.completes"]
    assert data["promise"].endswith(".")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5s"), (60, "1m"), (90, "90s"), (300, "5m"), (7200, "2h")]
)
def test_duration(seconds: float, text: str) -> None:
    """As the settings read it."""
    assert duration(seconds) == text
