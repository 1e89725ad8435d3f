"""The campaign of disturbances: lives of the daemon, one after another, disturbed and judged."""

import contextlib
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from probes.catalog import CATALOG
from tests.chaos import disturbances, invariants
from tests.chaos.disturbances import Disturbance, Field
from tests.chaos.life import End, Life, contents, free_port
from tests.chaos.shim import Control, NoCompilerError, build
from tests.chaos.telling import say
from tests.chaos.watch import Watch
from tests.emulator import install

#: Cheap probes of every kind: without torch, of the host, of each device.
PROBES: Final = (
    *("container", "torch_version", "numpy_sharing"),
    *("cuda_available", "train_eval", "autograd"),
)

#: Faults of the second of the fake devices; the first is sound in every life.
_FAULTS: Final = ("", "1:aten::mm:scale:1.05", "1:h2d:flip", "1:aten::add:nan@after=3")
SICK: Final = "fake:1"

_STOP_S: Final = 5.0  # for the daemon to end
_RUN_S: Final = 90.0  # for a run that nobody disturbs, on a machine that others load
_AT_ONCE: Final = (3, 8)  # disturbances of a life

_MOST_KIB: Final = 16 * 1024
_MOST_DESCRIPTORS: Final = 4


def settings_text(port: int, files: Path, interval_s: float = 8.0) -> str:
    """Settings with which the daemon runs the cheap probes all the time."""
    off = "".join(f"  {s.name}: {{enabled: false}}\n" for s in CATALOG if s.name not in PROBES)
    table = "".join(f"  {name}: {{interval: {interval_s}s, jitter: 0.5s}}\n" for name in PROBES)
    return (
        "log: {format: json}\n"
        "expect: {unproven: fail}\n"
        "run: {timeout: 90s}\n"
        "ready: {max_age: 10m}\n"
        f"web: {{listen_address: '127.0.0.1:{port}', unix_socket: ''}}\n"
        f"files: {{ready: {files}/ready, nfd: {files}/nfd}}\n"
        f"probes:\n{off}schedule:\n{table}"
    )


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of 256 KiB; None where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@dataclass
class Outcome:
    """What a life came to."""

    number: int
    faults: str
    done: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    looks: int = 0
    runs: int = 0
    results: Counter[str] = field(default_factory=Counter)  # by status
    samples: list[invariants.Sample] = field(default_factory=list)
    stop_s: float = 0.0


class Campaign:
    """Lives, from a seed."""

    def __init__(self, seed: int, folder: Path, kinds: tuple[Disturbance, ...]) -> None:
        """Prepare the folder, the fake accelerator and the preloaded library."""
        self._seed, self._folder, self._kinds = seed, folder, kinds
        self._emulator = install()
        try:
            self._library: Path | None = build(folder)
        except NoCompilerError:
            self._library = None

    def life(self, number: int) -> Outcome:
        """One life: a run undisturbed, disturbances, back to the right verdicts, the end."""
        rng = random.Random(f"{self._seed}.{number}")  # noqa: S311 - to be repeated
        outcome = Outcome(number, rng.choice(_FAULTS))
        folder = self._folder / f"life-{number}"
        folder.mkdir()
        control = Control(folder / "control") if self._library is not None else None
        environment = {"PYTHONPATH": str(self._emulator), "EMULATOR_FAULTS": outcome.faults}
        if control is not None:
            environment |= {"LD_PRELOAD": str(self._library), "CHAOS_CONTROL": str(control.path)}
        port = free_port()
        with small_disk(folder / "files") as disk:
            config = folder / "settings.yaml"
            text = settings_text(port, folder / "files")
            config.write_text(text, encoding="utf-8")
            with Life(config, port, environment) as life, Watch(life, folder / "files") as watch:
                self._disturb(
                    Field(life, watch, rng, control, config, text, disk), outcome, folder / "files"
                )
                outcome.violations += watch.violations
                outcome.slowest_s, outcome.looks = watch.slowest_s, watch.looks
                outcome.samples = watch.samples
                outcome.runs = len(life.events("run_finished"))
                outcome.results.update(line["status"] for line in life.events("result"))
                if outcome.violations:
                    log = [str(line) for line in life.lines] + life.other_text
                    (folder / "log").write_text("\n".join(log), encoding="utf-8")
        return outcome

    def _disturb(self, on: Field, outcome: Outcome, files: Path) -> None:
        life, watch, rng = on.life, on.watch, on.rng
        with watch.excused(0):
            if not life.wait_for("run_finished", 1, _RUN_S):
                outcome.violations.append(f"no first run has ended: {life.last_words}")
                return
        watch.sick = self._sick(life, outcome)
        for _ in range(rng.randint(*_AT_ONCE)):
            kind = rng.choice(self._kinds)
            watch.may_sample = False
            what = kind(on)
            watch.may_sample = True
            outcome.done.append(f"{kind.__name__} ({what})")
            if on.ends and life.process.poll() is not None:
                watch.end()
                self._judge_sudden_end(life, kind, outcome, files)
                return
            on.ends = False
            if life.process.poll() is not None:
                watch.end()
                outcome.violations.append(f"{kind.__name__} ended it: {life.last_words[:300]}")
                return
            disturbances._pause(on, 0, 3)
        self._await_recovery(on, outcome)
        watch.look_at_pages()
        disturbances._pause(on, 0, 3)  # so that the end comes at any place of a run
        watch.end()
        outcome.violations += invariants.grown(
            watch.samples, most_kib=_MOST_KIB, most_descriptors=_MOST_DESCRIPTORS
        )
        end = life.stop()
        outcome.stop_s = end.took_s
        self._judge_end(life, end, outcome, files)

    def _sick(self, life: Life, outcome: Outcome) -> dict[str, frozenset[str]]:
        """The probes that the fault trips, as the run tells that nobody disturbed."""
        told = life.events("result")
        tripped = frozenset(
            one["probe"] for one in told if one["device"] == SICK and one["status"] == "fail"
        )
        if bool(outcome.faults) != bool(tripped):
            outcome.violations.append(f"{outcome.faults!r} trips {sorted(tripped)} undisturbed")
        sick = {SICK: tripped} if tripped else {}
        outcome.violations += invariants.wrong_verdicts(told, sick)
        return sick

    def _await_recovery(self, on: Field, outcome: Outcome) -> None:
        """Within some runs that nobody disturbs every verdict is that of the hardware again."""
        deadline = time.monotonic() + _RUN_S
        expected = {
            (one["probe"], one["device"]): one["status"]
            for told in invariants.Runs.of(on.life.lines).told[:1]
            for one in told.values()
        }
        wrong: dict[tuple[str, str], str] = {}
        while time.monotonic() < deadline:
            runs = invariants.Runs.of(list(on.life.lines))
            now: dict[tuple[str, str], str] = {}
            for told in runs.told:
                now |= {pair: one["status"] for pair, one in told.items()}
            wrong = {
                pair: now.get(pair, "") for pair in expected if now.get(pair) != expected[pair]
            }
            if not wrong or on.life.process.poll() is not None:
                break
            time.sleep(0.5)
        if wrong:
            outcome.violations.append(
                f"left alone it does not come back to right verdicts: {wrong}"
            )

    def _judge_end(self, life: Life, end: End, outcome: Outcome, files: Path) -> None:
        outcome.violations += invariants.unclear_end(end.code, end.took_s, life.last_words)
        if end.took_s > _STOP_S:
            outcome.violations.append(f"it took {end.took_s:.1f} s to end")
        outcome.violations += [f"outlived it: {one}" for one in end.left]
        outcome.violations += invariants.vouching(contents(files))

    def _judge_sudden_end(
        self, life: Life, kind: Disturbance, outcome: Outcome, files: Path
    ) -> None:
        end = life.await_end(1)
        if kind is not disturbances.kill_daemon:
            outcome.violations += invariants.unclear_end(end.code, end.took_s, life.last_words)
        outcome.violations += [f"outlived it: {one}" for one in end.left]
        outcome.violations += invariants.everlasting(contents(files))


def tell(outcome: Outcome, seed: int, log: Path) -> None:
    """Say what was done to a life and what it came to; the log of a broken one is kept."""
    mark = "broken" if outcome.violations else "held"
    say(f"life {outcome.number} ({outcome.faults or 'sound'}): {mark}")
    say(f"    {'; '.join(outcome.done)}")
    for violation in outcome.violations:
        say(f"  ! {violation}")
    if log.exists():
        kept = Path("build") / f"chaos-{seed}-{outcome.number}.log"
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(log, kept)
        say(f"    its log: {kept}")


def run(seed: int, seconds: float, only: str = "") -> int:
    """Live until the time is over; 1 where a promise was broken."""
    kinds = tuple(kind for kind in disturbances.ALL if only in kind.__name__)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        campaign = Campaign(seed, Path(name), kinds)
        while time.monotonic() - began < seconds:
            number = len(outcomes)
            outcomes.append(campaign.life(number))
            tell(outcomes[-1], seed, Path(name) / f"life-{number}" / "log")
    results = sum((one.results for one in outcomes), Counter[str]())
    told = ", ".join(f"{count} {status}" for status, count in sorted(results.items()))
    done, runs = sum(len(one.done) for one in outcomes), sum(one.runs for one in outcomes)
    looks, slowest_s = sum(one.looks for one in outcomes), max(one.slowest_s for one in outcomes)
    broken = sum(bool(one.violations) for one in outcomes)
    say(f"seed {seed}: {len(outcomes)} lives, {done} disturbances, {runs} runs; {told}")
    say(
        f"health: {looks} looks, the slowest {1e3 * slowest_s:.0f} ms; "
        f"stop: {max(one.stop_s for one in outcomes):.1f} s at most"
    )
    say(f"{broken} of {len(outcomes)} lives broke a promise")
    return 1 if broken else 0
