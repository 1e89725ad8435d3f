"""One life of the daemon as a process: its log as it comes, its pages, its processes, its end."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]

#: In the environment of a life and all that it starts.
_MARK: Final = "CHAOS_LIFE"

#: The file that takes all the space of a full disk.
FILLING: Final = "rest"

_RUN_EVENTS: Final = frozenset({"run_started", "run_finished"})

Line = dict[str, Any]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@dataclass(frozen=True)
class Answer:
    """What came of a request; status 0 where nothing did."""

    status: int
    body: bytes
    took_s: float


@dataclass(frozen=True)
class End:
    """How a life ended."""

    code: int | None  # None: it did not, and was killed
    took_s: float
    left: list[str] = field(default_factory=list)  # processes that outlived it


#: The script that an installation makes of the command.
_COMMAND: Final = "import sys, gpu_env_validator; sys.exit(gpu_env_validator.main())"


class Life:
    """The daemon, started; its log is JSON. Use it as a context: nothing of it is left after it."""

    def __init__(
        self, config: Path, port: int, environment: Mapping[str, str], *, flags: Sequence[str] = ()
    ) -> None:
        """Start `serve` with a settings file that has it listen on 127.0.0.1:port."""
        self.port = port
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        name, value = self._mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, "serve", "--config.file", str(config), *flags],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment, name: value},
        )
        self.pid = self.process.pid
        self.reads = threading.Event()  # cleared: nobody reads the log
        self.reads.set()
        self.lines: list[Line] = []
        self.other_text: list[str] = []  # of the log, that is no line of ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Life":  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    # -- its log ----------------------------------------------------------------------------

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in iter(self.process.stderr.readline, b""):
            text = raw.decode(errors="replace").rstrip("\n")
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if isinstance(line, dict) and "event" in line:
                self.lines.append(line)
            else:
                self.other_text.append(text)
            self.reads.wait()

    def events(self, name: str) -> list[Line]:
        """The lines of an event so far."""
        return [line for line in list(self.lines) if line["event"] == name]

    def is_between_runs(self) -> bool:
        """Whether a run has ended and no other begun, as far as the log was read."""
        runs = [line["event"] for line in list(self.lines) if line["event"] in _RUN_EVENTS]
        return runs[-1:] == ["run_finished"]

    def wait_for(self, event: str, count: int, seconds: float) -> bool:
        """Whether an event comes so many times within a time; False when the life is over too."""
        deadline = time.monotonic() + seconds
        while len(self.events(event)) < count:
            if time.monotonic() > deadline:
                return False
            if self.process.poll() is not None:
                self._reader.join(2)
                return len(self.events(event)) >= count
            time.sleep(0.02)
        return True

    # -- its pages --------------------------------------------------------------------------

    def get(self, path: str, seconds: float = 5.0) -> Answer:
        """One page, on a connection of its own."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), time.monotonic() - began)
        except (OSError, http.client.HTTPException):
            return Answer(0, b"", time.monotonic() - began)
        finally:
            connection.close()

    # -- its processes ----------------------------------------------------------------------

    def processes(self) -> list[int]:
        """All live processes of this life but the daemon itself."""
        return [pid for pid in _marked(self._mark) if pid != self.pid]

    def send(self, number: int, pid: int | None = None) -> None:
        """Send a signal to the daemon, or to one of its processes; one that is gone is fine."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid if pid is None else pid, number)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10.0) -> End:
        """End it by a signal, and say how it ended."""
        began = time.monotonic()
        self.send(number)
        return self.await_end(seconds, began)

    def await_end(self, seconds: float, began: float | None = None) -> End:
        """Wait for its end, then for that of all it started: they have a second."""
        began = time.monotonic() if began is None else began
        try:
            code: int | None = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        took_s = time.monotonic() - began
        left = self.processes()
        deadline = time.monotonic() + 1
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = self.processes()
        told = [f"{pid} {describe(pid)}" for pid in left]
        self.kill_all()
        return End(code, took_s, told)

    def kill_all(self) -> None:
        """Leave nothing of this life; the rest of its log is read."""
        self.reads.set()
        for pid in _marked(self._mark):
            self.send(signal.SIGKILL, pid)
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        if self.process.stderr is not None and not self._reader.is_alive():
            self.process.stderr.close()

    @property
    def last_words(self) -> str:
        """The last thing that it said, of whatever kind."""
        text = [line for line in self.other_text if line.strip()]
        if text:
            return text[-1]
        return json.dumps(self.lines[-1]) if self.lines else ""


def describe(pid: int) -> str:
    """Name and state of a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")[:60]
    except OSError:
        return "gone"


def _marked(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def zombies(pid: int) -> set[int]:
    """The children of a process that wait to be reaped."""
    found = set()
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, listed.read_text(encoding="ascii").split()):
                stat = Path(f"/proc/{child}/stat").read_text(encoding="utf-8", errors="replace")
                if stat.rpartition(")")[2].split()[0] == "Z":
                    found.add(child)
    return found


def rss_kib(pid: int) -> int:
    """The resident memory of a process, in KiB; 0 when it is gone."""
    return _status_kib(pid, "VmRSS")


def size_kib(pid: int) -> int:
    """The address space of a process, in KiB; 0 when it is gone."""
    return _status_kib(pid, "VmSize")


def _status_kib(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


def descriptors(pid: int) -> int:
    """How many descriptors a process has open; 0 when it is gone."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def contents(folder: Path) -> dict[str, str]:
    """The status files in a folder, and what else is there but what fills it, by name."""
    found = {}
    for path in folder.iterdir():
        if path.name != FILLING:
            with contextlib.suppress(FileNotFoundError):  # replaced, or taken away
                found[path.name] = path.read_text(encoding="utf-8", errors="replace")
    return found
