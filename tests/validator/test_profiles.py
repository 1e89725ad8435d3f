"""A profile that holds nothing of its own says so everywhere, and stops saying so by itself."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from probes.catalog import AUTOGRAD, CATALOG
from probes.contract import PROFILES, Profile
from validator import profiles
from validator.cli import main as cli
from validator.engine import plan as plan_module
from validator.render.catalogue import render_explanation, render_list
from validator.render.console import console_for
from validator.service.daemon import Daemon
from validator.settings.loading import load
from validator.settings.values import SettingsError

ROOT = Path(__file__).parents[2]

DEEP = replace(AUTOGRAD, name="memory_full", profile="deep")
INSTANT = replace(AUTOGRAD, name="device_nodes", profile="instant")
EMPTY = profiles.empty_profiles()


def test_notes_come_from_the_catalogue() -> None:
    """With a probe of its own a profile has nothing to say."""
    quick_alone = (AUTOGRAD,)

    assert profiles.empty_profiles(quick_alone) == ("instant", "standard", "deep")
    assert profiles.note("instant", quick_alone) == "profile instant holds no probe yet"
    assert profiles.note("quick", quick_alone) == ""
    assert profiles.note("deep", quick_alone) == "profile deep holds nothing more than quick yet"
    whole = (INSTANT, AUTOGRAD, DEEP, replace(AUTOGRAD, profile="standard"))
    assert profiles.notes(whole) == ""
    with_deep = (AUTOGRAD, DEEP)
    assert profiles.note("deep", with_deep) == ""
    assert profiles.same_above(AUTOGRAD, with_deep) == "standard"
    assert profiles.same_above(DEEP, with_deep) == ""


@pytest.mark.parametrize("profile", EMPTY)
def test_list_explain_and_help_say_so(
    profile: Profile, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever chooses a profile reads it where they look."""
    console = console_for(io.StringIO(), width=300)
    cheapest = min(CATALOG, key=lambda spec: PROFILES.index(spec.profile))

    assert profiles.note(profile) in render_list(console)
    if PROFILES.index(profile) > PROFILES.index(cheapest.profile):
        assert re.search(rf"\(.*{profile}.* nothing more yet\)", _runs(cheapest.name))
    monkeypatch.setattr(sys, "argv", ["gpu-validator", "check", "--help"])
    assert cli.main() == 0
    assert profiles.note(profile) in " ".join(capsys.readouterr().out.split())


def _runs(name: str) -> str:
    spec = next(spec for spec in CATALOG if spec.name == name)
    return render_explanation(spec, None, console_for(io.StringIO(), width=300))


def test_a_profile_without_any_probe_is_no_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Could not tell, for a check; a daemon of it is not started."""
    monkeypatch.setattr(plan_module, "CATALOG", (AUTOGRAD,))
    monkeypatch.setattr(profiles, "empty_profiles", lambda *_: ("instant",))
    monkeypatch.setattr(sys, "argv", ["gpu-validator", "check", "--profile", "instant"])
    code = cli.main()
    told = capsys.readouterr().err
    argv = ["gpu-validator", "serve", "--profile", "instant", "--config.check"]
    monkeypatch.setattr(sys, "argv", argv)
    refused = cli.main()

    assert code == refused == 2
    assert "profile instant holds no probe yet: see --profile" in told
    assert "--profile: profile instant holds no probe yet" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="profile instant holds no probe yet"):
        Daemon(load(flags={"run": {"profile": "instant"}}))


def test_no_document_sends_anybody_to_an_empty_profile() -> None:
    """Docs, manifests and make targets: what they run does more than the cheaper one."""
    texts = [ROOT / "README.md", ROOT / "Makefile", ROOT / "Dockerfile", *ROOT.glob("*.yml")]
    texts += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*")]
    sent = re.compile(rf"(--profile\W+|profile: *|PROFILE[=:] *|`)({'|'.join(EMPTY) or '(?!)'})\b")
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in texts
        if file.is_file() and file.suffix != ".json"
        for match in sent.finditer(file.read_text(encoding="utf-8"))
    ]

    assert found == []
