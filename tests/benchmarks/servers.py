"""What the benchmarks share: servers as processes, their pages, their memory and processor time."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@contextlib.contextmanager
def server(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A side of a comparison, a module of ours, until the end of the block."""
    with running([sys.executable, "-m", module, *arguments]) as process:
        yield process


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server until the end of the block; what it prints is dropped."""
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(port: int, path: str, text: str, seconds: float) -> None:
    """Wait until a page has a text in it."""
    deadline = time.monotonic() + seconds
    while text not in get(port, path)[1]:
        if time.monotonic() > deadline:
            raise SystemExit(f"http://127.0.0.1:{port}{path} had no {text!r} within {seconds:g} s")
        time.sleep(0.05)


def status_kib(pid: int, name: str) -> int:
    """A value of /proc/PID/status in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def processor_s(pid: int) -> float:
    """User and system time of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


def children(pid: int) -> int:
    """How many child processes a process has."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sum(len(one.read_text(encoding="ascii").split()) for one in tasks)


def runs_done(port: int) -> float:
    """How many results the daemon has had: it grows while runs go on."""
    lines = get(port, "/metrics")[1].splitlines()
    counts = [line for line in lines if line.startswith("gpu_validator_probe_runs_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counts)
