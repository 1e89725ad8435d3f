"""What is done to a life: functions that disturb, end what they began, and say what they did."""

import contextlib
import random
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.life import FILLING, Life, descriptors, size_kib
from tests.chaos.shim import Control
from tests.chaos.watch import Watch


@dataclass
class Field:
    """What a disturbance may use."""

    life: Life
    watch: Watch
    rng: random.Random
    control: Control | None  # None: the library is not preloaded
    config: Path
    settings: str  # the text of the settings that are right
    disk: Path | None  # a small file system under the status files
    ends: bool = False  # set by a disturbance that the daemon need not survive


Disturbance = Callable[[Field], str]

#: Signals that others send, and no code to itself.
_FROM_OUTSIDE: Final = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2", "SIGALRM")
_MEANINGLESS: Final = ("SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPWR", "SIGVTALRM")

#: Settings that are refused, or that an editor left half written.
_BAD: Final = (
    "run: {profile: quikc}\n",
    "run: [\n",
    "schedule: {autograd: {interval: -1}}\n",
    "schedule: {autograd: {cron: '61 * * * *'}}\n",
    "\x00\x01\x02",
    "",
    "web: {listen_address: 'nowhere'}\nfiles: {ready: relative}\n",
    "a: &a [*a]\n",
    "probes: {" + "x: {enabled: false}, " * 500 + "}\n",
)


def _pause(field: Field, least_s: float, most_s: float) -> float:
    """Let some time pass while a disturbance lasts."""
    seconds = field.rng.uniform(least_s, most_s)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and field.life.process.poll() is None:
        time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
    return seconds


def _one(field: Field) -> int | None:
    """One of the daemon's processes; it waits a little for there to be some."""
    deadline = time.monotonic() + 8
    while not (found := sorted(field.life.processes())):
        if time.monotonic() > deadline or field.life.process.poll() is not None:
            return None
        time.sleep(0.01)
    _pause(field, 0, 1.5)  # at any place of its work
    found = sorted(field.life.processes()) or found
    return field.rng.choice(found)


# -- processes -------------------------------------------------------------------------------


def kill_one(field: Field) -> str:
    """A signal that others send ends a worker, a child, or what that started."""
    name = field.rng.choice(_FROM_OUTSIDE)
    pid = _one(field)
    if pid is None:
        return "nothing to kill"
    field.life.send(getattr(signal, name), pid)
    return f"{name} to {pid}"


def kill_all_of_them(field: Field) -> str:
    """All processes but the daemon are killed at once, a few times in a row."""
    times = field.rng.randint(1, 3)
    killed = 0
    for _ in range(times):
        _one(field)
        for pid in field.life.processes():
            field.life.send(signal.SIGKILL, pid)
            killed += 1
        _pause(field, 0, 0.5)
    return f"{killed} killed in {times} goes"


def freeze_one(field: Field) -> str:
    """A worker or child is stopped, and goes on."""
    pid = _one(field)
    if pid is None:
        return "nothing to freeze"
    field.life.send(signal.SIGSTOP, pid)
    seconds = _pause(field, 0.2, 4)
    field.life.send(signal.SIGCONT, pid)
    return f"{pid} for {seconds:.1f} s"


def freeze_daemon(field: Field) -> str:
    """The daemon is stopped while its processes go on."""
    with field.watch.excused():
        field.life.send(signal.SIGSTOP)
        seconds = _pause(field, 0.2, 4)
        field.life.send(signal.SIGCONT)
    return f"for {seconds:.1f} s"


def freeze_all(field: Field) -> str:
    """Everything is stopped, as by a cgroup's freezer."""
    with field.watch.excused():
        everybody = [field.life.pid, *field.life.processes()]
        for pid in everybody:
            field.life.send(signal.SIGSTOP, pid)
        seconds = _pause(field, 0.5, 5)
        for pid in reversed(everybody):
            field.life.send(signal.SIGCONT, pid)
    return f"{len(everybody)} processes for {seconds:.1f} s"


def meaningless_signals(field: Field) -> str:
    """A shower of signals that mean nothing to the daemon."""
    count = field.rng.randint(1, 50)
    for _ in range(count):
        field.life.send(getattr(signal, field.rng.choice(_MEANINGLESS)))
    return f"{count} of them"


# -- what is scarce --------------------------------------------------------------------------


def full_disk(field: Field) -> str:
    """The file system of the status files is full."""
    if field.disk is None:
        return "no file system of its own"
    rest = field.disk / FILLING
    with contextlib.suppress(OSError), rest.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(1024))
    seconds = _pause(field, 1, 6)
    rest.unlink(missing_ok=True)
    return f"for {seconds:.1f} s"


@contextlib.contextmanager
def _limited(pid: int, kind: int, most: int) -> Iterator[None]:
    """Lower a limit of a running process for the block; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        before = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (most, before[1]))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, kind, before)
        return
    yield


def no_descriptors(field: Field) -> str:
    """The daemon has at most a few descriptors left, or none."""
    room = field.rng.choice((0, 0, 1, 2, 5, 9))
    most = descriptors(field.life.pid) + room
    with field.watch.excused(2.5), _limited(field.life.pid, resource.RLIMIT_NOFILE, most):
        seconds = _pause(field, 1, 6)
    return f"{room} left for {seconds:.1f} s"


def no_memory_for_workers(field: Field) -> str:
    """A limit on address space that the daemon has room under, and its workers hand on.

    It comes and goes between two runs, so that a run and its verdict are under one limit.
    """
    life, kind = field.life, resource.RLIMIT_AS
    most = (size_kib(life.pid) << 10) + (field.rng.choice((64, 200, 500, 1000, 2000)) << 20)
    before = resource.getrlimit(kind)
    for limits in ((most, before[1]), before):
        with _stopped_between_runs(field) as stopped, contextlib.suppress(ProcessLookupError):
            if stopped or limits == before:
                resource.prlimit(life.pid, kind, limits)
        life.wait_for("run_finished", len(life.events("run_finished")) + 1, 40)
    return f"{most >> 20} MiB"


@contextlib.contextmanager
def _stopped_between_runs(field: Field) -> Iterator[bool]:
    """Stop the daemon where no run is going on; whether that was possible within a time."""
    life, deadline = field.life, time.monotonic() + 40
    with field.watch.excused():
        while life.process.poll() is None and time.monotonic() < deadline:
            life.send(signal.SIGSTOP)
            time.sleep(0.1)  # what it has said is read by now
            if life.is_between_runs():
                try:
                    yield True
                finally:
                    life.send(signal.SIGCONT)
                return
            life.send(signal.SIGCONT)
            time.sleep(0.1)
    yield False


def no_memory_for_the_daemon(field: Field) -> str:
    """The daemon gets no more address space for a while; it may end, if it says why."""
    field.ends = True
    size = size_kib(field.life.pid) << 10
    with field.watch.excused(2.0), _limited(field.life.pid, resource.RLIMIT_AS, size):
        seconds = _pause(field, 1, 4)
    return f"for {seconds:.1f} s"


# -- clients ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _connections(field: Field, count: int, *, receive: int = 0) -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.socket()
            if receive:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            one.settimeout(0.2)
            with contextlib.suppress(OSError):
                one.connect(("127.0.0.1", field.life.port))
            made.append(one)
        yield made
    finally:
        for one in made:
            one.close()


def idle_connections(field: Field) -> str:
    """Many connections that say nothing; health is answered all the same."""
    count = field.rng.choice((50, 300, 620))
    with _connections(field, count):
        seconds = _pause(field, 1, 4)
    return f"{count} for {seconds:.1f} s"


def half_requests(field: Field) -> str:
    """Requests that are not sent whole, and what is none."""
    texts = (
        b"GET /metr",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\r\n" * 500,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
    )
    with _connections(field, 40) as made:
        for one in made:
            with contextlib.suppress(OSError):
                one.sendall(field.rng.choice(texts))
        seconds = _pause(field, 0.5, 3)
    return f"40 for {seconds:.1f} s"


def slow_readers(field: Field) -> str:
    """Requests whose answers nobody reads."""
    page = field.rng.choice((b"/metrics", b"/api/v1/report", b"/api/v1/probes"))
    request = b"GET " + page + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    with _connections(field, 25, receive=4096) as made:
        for one in made:
            with contextlib.suppress(OSError):
                one.sendall(request * 20)
        seconds = _pause(field, 1, 4)
    return f"25 of {page.decode()} for {seconds:.1f} s"


def stalled_log(field: Field) -> str:
    """Nobody reads the log, while much is told."""
    field.life.reads.clear()
    for _ in range(300):
        field.life.send(getattr(signal, field.rng.choice(_MEANINGLESS)))
    seconds = _pause(field, 1, 5)
    field.life.reads.set()
    return f"for {seconds:.1f} s"


# -- clocks, settings, what is read ------------------------------------------------------------


def wall_clock(field: Field) -> str:
    """Somebody sets the clock: all processes see it, and the monotonic clock goes on as it did."""
    if field.control is None:
        return "no library is preloaded"
    ahead_s = field.rng.choice((-86400.0, -3600.0, -7.0, 0.0, 7.0, 3600.0, 86400.0, 30 * 86400.0))
    field.control.set_wall_clock(ahead_s)
    _pause(field, 0.5, 4)
    return f"{ahead_s:+.0f} s"


def paused_machine(field: Field) -> str:
    """All clocks jump ahead at once."""
    if field.control is None:
        return "no library is preloaded"
    seconds = field.rng.uniform(1, 40)
    field.control.pass_time(seconds)
    return f"{seconds:.0f} s"


def settings_churn(field: Field) -> str:
    """The settings are written anew and read again, good ones and bad ones in turns."""
    count = field.rng.randint(1, 6)
    for _ in range(count):
        good = (field.settings, field.settings.replace("max_age: 10m", "max_age: 8m"))
        text = field.rng.choice((*_BAD, *good, *good))
        field.config.write_text(text, encoding="utf-8")
        field.life.send(signal.SIGHUP)
        _pause(field, 0, 0.6)
    field.config.write_text(field.settings, encoding="utf-8")
    field.life.send(signal.SIGHUP)
    return f"{count} times"


def unreadable_proc(field: Field) -> str:
    """Nothing below /proc can be opened."""
    if field.control is None:
        return "no library is preloaded"
    field.control.hide_proc(True)
    seconds = _pause(field, 0.5, 4)
    field.control.hide_proc(False)
    return f"for {seconds:.1f} s"


def kill_daemon(field: Field) -> str:
    """The end of the life, without a word."""
    field.ends = True
    _pause(field, 0, 2)
    with field.watch.excused():
        field.life.send(signal.SIGKILL)
        field.life.process.wait(10)
    return "at any place"


ALL: Final[tuple[Disturbance, ...]] = (
    kill_one,
    kill_one,
    kill_one,
    kill_all_of_them,
    freeze_one,
    freeze_one,
    freeze_daemon,
    freeze_all,
    meaningless_signals,
    full_disk,
    no_descriptors,
    no_memory_for_workers,
    no_memory_for_the_daemon,
    idle_connections,
    half_requests,
    slow_readers,
    stalled_log,
    wall_clock,
    paused_machine,
    settings_churn,
    unreadable_proc,
    kill_daemon,
)
