"""Runs the programs of this folder, each in its own process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def output_of(program: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON that a program of this folder prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.probes.faults.{program}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    output: dict[str, Any] = json.loads(done.stdout)
    return output
