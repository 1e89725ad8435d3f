"""README, CONTRIBUTING and the package say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

from probes.catalog import CATALOG
from validator.commands import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_code() -> None:
    """Fails when a probe, check, setting, metric or path changed: run tools/reference.py."""
    done = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"], cwd=ROOT, timeout=60, check=False
    )

    assert done.returncode == 0, "python tools/reference.py writes them"


def test_a_stale_table_is_seen(tmp_path: Path) -> None:
    """The check above can fail."""
    copy = tmp_path / "tools"
    copy.mkdir()
    (copy / "reference.py").write_text((ROOT / "tools/reference.py").read_text())
    (tmp_path / "README.md").write_text(README.replace("| `autograd.", "| `autograde.", 1))
    done = subprocess.run(
        [sys.executable, str(copy / "reference.py"), "--check"], cwd=ROOT, timeout=60, check=False
    )

    assert done.returncode == 1


def test_every_command_is_in_the_readme() -> None:
    """A command that nobody can find is none."""
    for command in COMMANDS:
        assert f"gpu-validator {command}" in README


def test_every_option_in_the_readme_exists() -> None:
    """Options of examples are checked against the program's own help."""
    helps = ""
    for command in ("check", "serve", "list", "explain", "healthcheck"):
        done = subprocess.run(
            [sys.executable, "-m", "validator", command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        helps += done.stdout
    named = set(re.findall(r"gpu-validator (?:check|serve)[^\n]*", README))
    options = {option for line in named for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", line)}

    assert len(options) > 5
    assert {option for option in options if option not in helps} == set()


def test_every_relative_link_leads_somewhere() -> None:
    """Files and headings that the documents link to are there."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in headings, target
            elif not target.startswith("http"):
                assert (ROOT / target).exists(), target


def test_the_sample_of_the_output_is_todays() -> None:
    """The table in the README has a line for every probe."""
    sample = README.partition("```text\n")[2].partition("```")[0]
    for spec in CATALOG:
        assert spec.name in sample
