"""Running this folder's programs, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def told_by(program: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What a program of this folder prints, as JSON."""
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
    told: dict[str, Any] = json.loads(done.stdout)
    return told
