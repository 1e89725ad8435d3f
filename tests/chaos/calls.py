"""Each call of libc that a short life of the daemon makes, failed once in turn.

First a life is recorded that starts, runs, is scraped and stops. Then it is lived again for each
call of the record, in a seeded order: one of each site before a second of any. A site is the name
of a call and the lines of Python that it comes from; of an import, the file of ours that asks for
it. What is known is kept in `build/chaos-calls.jsonl`, so that a later campaign goes on where one
was stopped.
"""

import errno
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.chaos import invariants
from tests.chaos.disturb import settings_text
from tests.chaos.life import Life, contents, free_port
from tests.chaos.shim import build
from tests.chaos.telling import say
from tests.emulator import install

KEPT: Final = Path("build") / "chaos-calls.jsonl"

_OURS: Final = f"{Path(__file__).parents[2]}/"
_NOT_REACHED: Final = "not reached"
_RUN_S: Final = 40.0  # for a run of the shortest life, on a machine that others load
_STOP_S: Final = 10.0

#: CPython 3.11 crashes where it finds no memory for its own frames, taken in this size: what was to
#: be called is released twice. Nothing of ours can help that.
_OF_THE_INTERPRETER: Final = ("mmap64", "16384")

#: What each call may fail with, by its manual page; those that are not named fail with EIO.
_ERRORS: Final[dict[str, tuple[int, ...]]] = {
    "open": (errno.EMFILE, errno.EACCES, errno.ENOMEM, errno.EIO),
    "read": (errno.EIO,),
    "write": (errno.ENOSPC, errno.EIO, errno.EPIPE),
    "accept": (errno.EMFILE, errno.ECONNABORTED),
    "socket": (errno.EMFILE, errno.ENOBUFS),
    "bind": (errno.EACCES,),
    "listen": (errno.EADDRINUSE,),
    "send": (errno.ENOBUFS, errno.EPIPE, errno.ENOMEM),
    "recv": (errno.ENOMEM, errno.ECONNRESET),
    "setsockopt": (errno.ENOBUFS,),
    "getsockopt": (errno.ENOBUFS,),
    "getsockname": (errno.ENOBUFS,),
    "getpeername": (errno.ENOTCONN, errno.ENOBUFS),
    "shutdown": (errno.ENOTCONN,),
    "pipe": (errno.EMFILE,),
    "dup": (errno.EMFILE,),
    "epoll_create": (errno.EMFILE, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "epoll_wait": (errno.EINTR,),
    "poll": (errno.EINTR, errno.ENOMEM),
    "select": (errno.EINTR, errno.ENOMEM),
    "memfd": (errno.EMFILE, errno.ENOMEM),
    "mmap": (errno.ENOMEM,),
    "fork": (errno.EAGAIN, errno.ENOMEM),
    "vfork": (errno.EAGAIN, errno.ENOMEM),
    "wait": (errno.ECHILD, errno.EINTR),
    "kill": (errno.EPERM, errno.ESRCH),
    "getpgid": (errno.EPERM, errno.ESRCH),
    "pidfd": (errno.EMFILE, errno.ENOMEM, errno.ENOSYS),
    "pthread": (errno.EAGAIN,),
    "prctl": (errno.EINVAL,),
    "fcntl": (errno.EMFILE,),
    "ioctl": (errno.ENOTTY, errno.ENOMEM),
    "unlink": (errno.EROFS, errno.EIO),
    "rename": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.EIO, errno.ENOSPC),
    "readdir": (errno.EIO,),
    "stat": (errno.EACCES, errno.ENOMEM),
    "lstat": (errno.EACCES, errno.ENOMEM),
    "fstat": (errno.EIO, errno.ENOMEM),
}


@dataclass(frozen=True)
class Call:
    """One call of a recorded life."""

    stage: int
    name: str
    number: int
    about: str
    site: str
    serves: bool = False  # after it has begun to listen
    imports: bool = False

    @property
    def key(self) -> str:
        """What it is known by."""
        return f"{self.stage}:{self.name}:{self.number}"


@dataclass
class Tried:
    """What became of a life in which one call failed."""

    call: Call
    errno: int
    how: str  # in a word: went on, ended with 2, not reached
    violations: list[str]


def errors_of(name: str) -> tuple[int, ...]:
    """What a call may fail with."""
    for length in range(len(name), 2, -1):
        if name[:length] in _ERRORS:
            return _ERRORS[name[:length]]
    return (errno.EIO,)


def _frames(stack: str) -> list[str]:
    """The lines of a stack, the innermost first; those of Python's own import go by that name."""
    lines = stack.replace("<frozen ", "frozen ").split("<")
    return ["import" if "importlib" in line else line for line in lines]


def read_trace(path: Path, stage: int) -> Iterator[Call]:
    """The calls of a recorded life."""
    serves = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        what, _, stack = line.partition("\t")
        name, number, *about = what.split(" ", 2)
        serves = serves or '"event": "listening"' in what
        frames = _frames(stack)
        imports = frames[0] == "import"
        ours = next((one for one in frames if one.startswith(_OURS)), "").removeprefix(_OURS)
        if imports:
            ours = ours.partition(":")[0]
        site = f"{stage}{' serving' if serves else ''} {name} {frames[0]} {ours}"
        yield Call(stage, name, int(number), about[0] if about else "", site, serves, imports)


def in_order(calls: list[Call], rng: random.Random) -> list[Call]:
    """The calls in a seeded order: one of each site, then a second of each, and so on.

    In a round those of a daemon that serves come first, and an import's last.
    """
    by_site: dict[str, list[Call]] = {}
    for call in calls:
        by_site.setdefault(call.site, []).append(call)
    for several in by_site.values():
        rng.shuffle(several)
    rounds = max(map(len, by_site.values()), default=0)
    return [
        call
        for place in range(rounds)
        for call in sorted(
            (several[place] for several in by_site.values() if place < len(several)),
            key=lambda one: (one.imports, not one.serves),
        )
    ]


class Lives:
    """Short lives under the library."""

    def __init__(self, folder: Path, *, with_torch: bool) -> None:
        """Prepare the library; with torch a run asks the fake accelerator too."""
        self._folder, self._with_torch = folder, with_torch
        self._library = build(folder)
        self._emulator = install() if with_torch else None
        self._number = 0

    def live(self, stage: int, *, fail: str = "") -> tuple[str, list[str], Path]:
        """One life, in which a call fails: how it went, what is wrong with it, and its trace."""
        self._number += 1
        folder = self._folder / str(self._number)
        (folder / "files").mkdir(parents=True)
        trace, port = folder / "trace", free_port()
        config = folder / "settings.yaml"
        config.write_text(self._settings(port, folder / "files"), encoding="utf-8")
        environment = {
            "LD_PRELOAD": str(self._library),
            "CHAOS_STAGE": str(stage),
            "CHAOS_FROM": "validator/",
            "CHAOS_TRACE": str(trace),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if fail:
            environment["CHAOS_FAIL"] = fail
        if self._emulator is not None:
            environment["PYTHONPATH"] = str(self._emulator)
        with Life(config, port, environment) as life:
            how, wrong = self._live(life, folder / "files")
            if wrong:
                wrong += [f"    {text}" for text in life.other_text[-12:]]
        if fail and not any(
            " FAILED\t" in line
            for line in trace.read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            how = f"{_NOT_REACHED}, {how}"
        return how, wrong, trace

    def _settings(self, port: int, files: Path) -> str:
        text = settings_text(port, files, 3600.0)
        if self._with_torch:
            return text
        for name in ("torch_version", "numpy_sharing", "cuda_available", "train_eval", "autograd"):
            text = text.replace("probes:\n", f"probes:\n  {name}: {{enabled: false}}\n")
        return text

    def _has_run(self, life: Life) -> bool:
        """Whether a run has ended; asked where the line that says so was what failed."""
        if life.wait_for("run_finished", 1, _RUN_S / 2):
            return True
        deadline = time.monotonic() + _RUN_S / 2
        while life.process.poll() is None and time.monotonic() < deadline:
            if life.get("/api/v1/report").status == 200:
                return True
            time.sleep(0.2)
        return False

    def _live(self, life: Life, files: Path) -> tuple[str, list[str]]:
        wrong: list[str] = []
        if self._has_run(life):
            asked = [life.get(path) for path in ("/healthz", "/metrics", "/api/v1/report")]
            again = [life.get(path) for path in ("/healthz", "/metrics", "/api/v1/report")]
            answered = [one.status or two.status for one, two in zip(asked, again, strict=True)]
            if life.process.poll() is None and answered != [200, 200, 200]:
                wrong.append(f"after its run it answers {answered}")
        elif life.process.poll() is None:
            wrong.append(f"no run has ended within {_RUN_S:g} s")
        went_on = life.process.poll() is None
        end = life.stop(seconds=_STOP_S) if went_on else life.await_end(0.1)
        wrong += invariants.unclear_end(end.code, end.took_s, life.last_words)
        if went_on and end.took_s > 5.5:
            wrong.append(f"it took {end.took_s:.1f} s to end")
        wrong += [f"outlived it: {one}" for one in end.left]
        wrong += invariants.wrong_verdicts(life.events("result"), {})
        left = contents(files)
        wrong += invariants.vouching(left) if end.code == 0 else invariants.everlasting(left)
        told = {line["status"] for line in life.events("result")}
        verdict = "with errors" if "error" in told else "unharmed"
        if end.code == 0:
            return f"went on {verdict}", wrong
        return (
            f"{'stopped' if went_on else 'ended'} with {end.code}: {life.last_words[:150]}",
            wrong,
        )


def recorded(lives: Lives) -> list[Call]:
    """The calls of both stages of a life in which none fails.

    Raises:
        RuntimeError: that life broke a promise.
    """
    calls: list[Call] = []
    for stage in (1, 2):
        _, wrong, trace = lives.live(stage)
        if wrong:
            raise RuntimeError(f"the life that is recorded went wrong: {wrong}")
        calls += read_trace(trace, stage)
    return [call for call in calls if (call.name, call.about) != _OF_THE_INTERPRETER]


def known(kind: str) -> tuple[set[str], set[str]]:
    """The keys of the calls that were failed before, and the sites that were reached so."""
    if not KEPT.exists():
        return set(), set()
    lines = map(json.loads, KEPT.read_text(encoding="utf-8").splitlines())
    before = [one for one in lines if one["kind"] == kind]
    reached = {one["call"]["site"] for one in before if not one["how"].startswith(_NOT_REACHED)}
    return {one["key"] for one in before}, reached


def fail(lives: Lives, call: Call, number: int, kind: str) -> Tried:
    """Live once with a call failed, and keep what came of it."""
    how, wrong, _ = lives.live(call.stage, fail=f"{call.name}:{call.number}:{number}")
    tried = Tried(call, number, how, wrong)
    with KEPT.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"kind": kind, "key": call.key, **asdict(tried)}) + "\n")
    if wrong:
        say(f"! {call.key} {errno.errorcode[number]} ({call.about}): {how}")
        for text in wrong:
            say(f"    {text}")
    return tried


def run(seed: int, seconds: float, only: str = "", *, with_torch: bool = False) -> int:
    """Fail calls until the time is over or none is left; 1 where a promise was broken."""
    began, rng = time.monotonic(), random.Random(seed)  # noqa: S311 - to be repeated
    KEPT.parent.mkdir(exist_ok=True)
    kind = "torch" if with_torch else "bare"
    before, reached = known(kind)
    tried: list[Tried] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        lives = Lives(Path(name), with_torch=with_torch)
        calls = [call for call in recorded(lives) if only in call.name]
        sites = {call.site for call in calls}
        say(f"{len(calls)} calls of {len(sites)} sites in a life ({kind})")
        fresh = [call for call in in_order(calls, rng) if call.key not in before]
        # A call has another number in another record; its site stays.
        fresh.sort(key=lambda call: call.site in reached)
        for call in fresh:
            if time.monotonic() - began > seconds:
                break
            tried.append(fail(lives, call, rng.choice(errors_of(call.name)), kind))
    how_often = Counter(one.how.partition(":")[0] for one in tried)
    told = ", ".join(f"{count} {how}" for how, count in how_often.most_common())
    broken = sum(bool(one.violations) for one in tried)
    reached |= {one.call.site for one in tried if not one.how.startswith(_NOT_REACHED)}
    say(f"seed {seed}: {len(tried)} calls failed: {told}")
    say(f"{len(before)} calls were known from before; {len(sites & reached)} sites were reached")
    say(f"{broken} broke a promise")
    return 1 if broken else 0
