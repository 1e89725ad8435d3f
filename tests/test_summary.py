"""What a run of the tests says about itself: how long it takes, what it skipped and why."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_needs_a_tool(number):
    pytest.skip("no promtool here")

@pytest.mark.skip(reason="no GPU here")
def test_needs_a_gpu():
    pass

def test_passes():
    pass
"""


def said(folder: Path, *options: str) -> list[str]:
    """The lines of a run of TESTS with our conftest."""
    file = folder / "test_some.py"
    file.write_text(TESTS, encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.conftest"),
            *(f"--rootdir={folder}", str(file), *options),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_skips_are_grouped_by_their_reason(tmp_path: Path) -> None:
    """A line a reason with its count, the most frequent first."""
    lines = said(tmp_path)
    start = next(place for place, line in enumerate(lines) if "skipped, and why" in line)

    assert [line.split(maxsplit=1) for line in lines[start + 1 : start + 3]] == [
        ["3", "no promtool here"],
        ["1", "no GPU here"],
    ]


def test_without_skips_nothing_is_said_of_them(tmp_path: Path) -> None:
    """No empty section."""
    assert not any("skipped, and why" in line for line in said(tmp_path, "-k", "passes"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "all tests: about 15 minutes"),
        (("-m", "not slow"), "the fast tests: about two minutes"),
    ],
)
def test_the_start_says_how_long_it_takes(
    tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    """By what is chosen."""
    assert any(line.startswith(text) for line in said(tmp_path, *options))
