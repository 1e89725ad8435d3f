"""README, docs and the package say what the code does."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from probes.catalog import CATALOG
from probes.contract import Reason, Status
from tests.validator.reports import QUICK
from tools import reference
from validator.cli.app import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_reference_is_that_of_the_code() -> None:
    """Fails when a probe, check, setting, metric or path changed: run tools/reference.py."""
    done = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"], cwd=ROOT, timeout=60, check=False
    )

    assert done.returncode == 0, "python tools/reference.py writes it"


def test_a_stale_page_is_seen(tmp_path: Path) -> None:
    """The check above can fail: by a page that changed, is absent, or is of no probe."""
    for name, text in reference.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert reference.stale(tmp_path) == []

    (tmp_path / "autograd.md").write_text("# autograde\n", encoding="utf-8")
    (tmp_path / "settings.md").unlink()
    (tmp_path / "of_no_probe.md").write_text("", encoding="utf-8")

    assert reference.stale(tmp_path) == ["autograd.md", "of_no_probe.md", "settings.md"]


def test_the_readme_is_short_and_every_page_is_in_the_index() -> None:
    """A page that nobody can find is none."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")

    assert len(README.splitlines()) <= 200
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_every_command_is_in_the_readme() -> None:
    """A command that nobody can find is none."""
    for command in COMMANDS:
        assert f"gpu-validator {command}" in README


def test_each_line_of_the_threat_model_has_its_tests() -> None:
    """A promise that no test holds is said to be none."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "::" in line]
    named = [match for row in rows for match in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)]

    _, model = page.split("## Threat model")
    lines = [line for line in model.splitlines() if line.startswith("| ")]
    said = [line for line in lines if line.endswith(" | |")]

    assert len(rows) >= 20
    assert len(rows) + len(said) == len(lines) - 2 * model.count("\n| --- |")
    assert len(said) == 2  # reading, and root without a user namespace: what they can do
    for path, test in named:
        assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_every_reason_and_status_is_explained() -> None:
    """Where a report is explained, each word of it is."""
    page = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    for word in (*get_args(Reason), *get_args(Status)):
        assert f"| `{word}` |" in page, word


def test_every_option_in_the_readme_exists() -> None:
    """Options of examples are checked against the program's own help."""
    helps = ""
    for command in ("check", "burn", "serve", "list", "explain", "healthcheck"):
        done = subprocess.run(
            [sys.executable, "-m", "validator", command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        helps += done.stdout
    named = set(re.findall(r"gpu-validator (?:check|burn|serve)[^\n]*", README))
    options = {option for line in named for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", line)}

    assert len(options) > 5
    assert {option for option in options if option not in helps} == set()


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_every_relative_link_leads_somewhere() -> None:
    """Files and headings that the documents link to are there."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                name, _, heading = target.partition("#")
                there = page.parent / name if name else page
                assert there.exists(), f"{page.name}: {target}"
                assert not heading or heading in headings(there), f"{page.name}: {target}"


def test_the_sample_of_the_output_is_todays() -> None:
    """The table in the README has a line for every probe of the profile that it names."""
    sample = README.partition("```text\n")[2].partition("```")[0]
    for spec in QUICK:
        assert spec.name in sample


def test_every_probe_is_in_the_readme() -> None:
    """With its promise, whatever its profile."""
    for spec in CATALOG:
        assert f"\n| `{spec.name}` | " in README
