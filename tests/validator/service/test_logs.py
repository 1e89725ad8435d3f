"""Logs are one line an event, in both forms, and never in the daemon's way."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from validator.service import logs

ROOT = Path(__file__).resolve().parents[3]


def test_text_is_one_line_of_keys(capfd: pytest.CaptureFixture[str]) -> None:
    """Newlines and quotes in a value stay within the line; lists are joined."""
    logs.configure("info", "text")
    logs.log().info("result", summary='two\nlines, a "quote"', probes=("a", "b"), n=1)
    out, err = capfd.readouterr()

    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("timestamp=2")
    assert " level=info event=result " in err
    assert "probes=a,b" in err
    assert r"two\nlines" in err


def test_json_is_one_document_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    """It parses, and holds what was given."""
    logs.configure("info", "json")
    logs.log().warning("result", summary="two\nlines", probes=("a", "b"))
    line = json.loads(capfd.readouterr().err)

    assert (line["event"], line["level"], line["probes"]) == ("result", "warning", ["a", "b"])
    assert line["summary"] == "two\nlines"
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("level", "shown"), [("warning", 0), ("info", 1), ("debug", 1)])
def test_the_level_holds_from_its_setting_on(
    level: str, shown: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A logger that was made before follows too."""
    log = logs.log()
    logs.configure(level)  # type: ignore[arg-type]
    log.info("event")

    assert capfd.readouterr().err.count("event=event") == shown


def test_libraries_are_heard(capfd: pytest.CaptureFixture[str]) -> None:
    """A warning of a library is one line of ours, with its traceback when it has one."""
    logs.configure("info", "json")
    logs.configure("info", "json")
    lost = LookupError("lost")
    logging.getLogger("uvicorn.error").error("it failed", exc_info=lost)
    [line] = capfd.readouterr().err.splitlines()
    told = json.loads(line)

    assert (told["event"], told["logger"], told["message"]) == (
        "library",
        "uvicorn.error",
        "it failed",
    )
    assert "LookupError: lost" in told["traceback"]


def test_a_reader_that_went_away_ends_nothing() -> None:
    """Stderr is a pipe that nobody reads any more."""
    code = (
        "from validator.service import logs; logs.configure(); "
        "logs.log().error('event', text='x' * 100_000); print('alive')"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=write,
        check=False,
        timeout=60,
    )
    os.close(write)

    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_rich_is_not_imported_for_logs() -> None:
    """And it can be imported afterwards, by whoever needs it."""
    pytest.importorskip("rich")
    code = (
        "import sys; from validator.service import logs; "
        "assert 'rich' not in sys.modules; import rich"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)

    assert done.returncode == 0
