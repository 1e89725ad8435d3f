"""The accelerator under test, asked in processes of their own: this one never touches a driver."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]

#: The device type to test; the emulator's name shows the tests themselves to be right.
KIND: Final = os.environ.get("VALIDATOR_TEST_ACCELERATOR", "cuda")
DEVICE: Final = f"{KIND}:0"

_ASK: Final = """
import json, torch
from probes.node import survey
print(json.dumps(survey.take()))
"""

_USE: Final = """
import json, os
import pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
used = pynvml.nvmlDeviceGetMemoryInfo(gpu).used
print(json.dumps([used, [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)]]))
"""

_FIRST_KERNEL: Final = """
import sys, torch
x = torch.ones(1000, device=sys.argv[1])
assert x.sum().item() == 1000
"""

_BUSY: Final = """
import sys, torch
a = torch.ones(2048, 2048, device=sys.argv[1])
print("ready", flush=True)
while True:
    (a @ a).sum().item()
"""

_HOLDS: Final = """
import sys, time, torch
module = getattr(torch, torch.device(sys.argv[1]).type)
free, _ = module.mem_get_info(sys.argv[1])
kept = torch.empty(max(free - int(sys.argv[2]), 1), dtype=torch.uint8, device=sys.argv[1])
print("ready", flush=True)
time.sleep(600)
"""

#: What a neighbour that holds the memory leaves, in bytes: a context and a probe find room.
LEFT_BYTES: Final = 3 << 30

NEIGHBOURS: Final = {"busy": (_BUSY,), "holds": (_HOLDS, str(LEFT_BYTES))}


@dataclass(frozen=True)
class Use:
    """Memory in use on the board, in bytes, and the processes that compute on it."""

    memory_bytes: int
    pids: tuple[int, ...]


def python(program: str, *argv: str, timeout: float = 120) -> str:
    """What a program prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    )
    return done.stdout


def survey() -> dict[str, Any]:
    """The devices and versions of this machine, as a report has them."""
    found: dict[str, Any] = json.loads(python(_ASK).splitlines()[-1])
    return found


def use() -> Use | None:
    """What NVML says is in use on the first board; None where there is no NVML."""
    try:
        memory_bytes, pids = json.loads(python(_USE))
    except subprocess.CalledProcessError:
        return None
    return Use(memory_bytes, tuple(pids))


def first_kernel_s() -> float:
    """Seconds of a bare process: import of torch, context, first kernel."""
    began_s = time.monotonic()
    python(_FIRST_KERNEL, DEVICE)
    return time.monotonic() - began_s


@contextlib.contextmanager
def neighbour(what: str) -> Iterator[None]:
    """Another process on the device, `busy` with products or one that `holds` the memory."""
    program, *argv = NEIGHBOURS[what]
    process = subprocess.Popen(
        [sys.executable, "-c", program, DEVICE, *argv], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


def command(
    *argv: str, environment: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `gpu-validator` as a user does, with no settings of this machine."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GPU_VALIDATOR_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "validator", *argv],
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": python_path(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def python_path() -> str:
    """Our root on the path, before what is there."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
