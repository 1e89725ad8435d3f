"""A program that prints, as JSON, which checks of a host's probe trip under each of its faults.

Each fault is injected in a forked child, as the worker does: modes of the processor and settings of
torch cannot all be put back.
"""

import importlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import torch

from probes.contract import Finding
from probes.faults.inject import apply

ROOT = Path(__file__).parents[2]


@cache
def tripped_by_fault(probe: str) -> dict[str, set[str]]:
    """Fault -> ids of the checks that trip under it, for all faults of a probe."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, probe],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {name: set(checks) for name, checks in json.loads(done.stdout).items()}


def _under(fault: str, probe: str) -> list[str]:
    """The checks that trip in a child with the fault."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        apply(fault, "cpu")
        module = importlib.import_module(f"probes.{probe}.probe")
        found: list[Finding] = list(module.judge(module.observe("cpu")))
        bad = [one.id for one in found if one.status not in {"pass", "skip"}]
        os.write(write, json.dumps(bad).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return list(json.loads(text or "null"))


def main() -> None:
    """Print the checks of each fault of the probe that is named."""
    torch.set_num_threads(1)
    probe = sys.argv[1]
    faults = importlib.import_module(f"probes.{probe}.faults").FAULTS
    json.dump({fault.name: _under(fault.name, probe) for fault in faults}, sys.stdout)


if __name__ == "__main__":
    main()
