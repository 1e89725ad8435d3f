"""Looks at a life all the while: does it answer, does it count up, does it keep what it told."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.chaos import invariants
from tests.chaos.life import Life, contents, descriptors, rss_kib, zombies

#: Within this the pages of health must answer.
HEALTH_S: Final = 1.0

_PAUSE_S: Final = 0.25
_READ_EVERY: Final = 4  # looks between two looks at report and metrics
#: A child that is dead for so long is reaped by nobody.
_ZOMBIE_S: Final = 5.0


class Watch:
    """A thread that looks at a life; use it as a context. `violations` holds what it saw."""

    def __init__(self, life: Life, files: Path) -> None:
        """Look at a life and its status files; nothing is asked of verdicts until `sick` is set."""
        self.violations: list[str] = []
        self.samples: list[invariants.Sample] = []
        self.slowest_s = 0.0
        self.looks = 0
        #: The devices with a fault, and the probes that it trips there.
        self.sick: Mapping[str, frozenset[str]] | None = None
        self.may_sample = True  # False: something is done to it just now
        self._life, self._files = life, files
        self._began = time.monotonic()
        self._excused_until = 0.0
        self._excuses = 0
        self._over = threading.Event()
        self._counters: dict[str, float] = {}
        self._dead: dict[int, float] = {}
        self._seen = 0  # lines of the log whose verdicts were looked at
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":  # noqa: PYI034 - Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(30)

    @contextlib.contextmanager
    def excused(self, seconds: float = 1.0) -> Iterator[None]:
        """The daemon need not answer during the block, nor so many seconds after it."""
        self._excuses += 1
        try:
            yield
        finally:
            self._excused_until = time.monotonic() + seconds
            self._excuses -= 1

    def _is_excused(self, since: float) -> bool:
        return self._excuses > 0 or since < self._excused_until

    def _watch(self) -> None:
        number = 0
        while not self._over.wait(_PAUSE_S):
            number += 1
            self.look_at_health()
            self._sample()
            if number % _READ_EVERY == 0:
                self.look_at_pages()
                self._look_at_children()

    def look_at_health(self) -> None:
        """Ask whether it lives."""
        began = time.monotonic()
        excused = self._is_excused(began)
        answer = self._life.get("/healthz", 5.0)
        if excused or self._is_excused(began) or self._over.is_set():
            return
        self.looks += 1
        self.slowest_s = max(self.slowest_s, answer.took_s)
        if answer.status != 200 or answer.took_s > HEALTH_S:
            body = answer.body[:80].decode(errors="replace").strip()
            self._note(f"/healthz answered {answer.status} {body!r} after {answer.took_s:.2f} s")

    def look_at_pages(self) -> None:
        """Hold the metrics and the report against what was said before."""
        runs = invariants.Runs.of(list(self._life.lines))
        metrics, report = self._life.get("/metrics"), self._life.get("/api/v1/report")
        if metrics.status == 200:
            now = invariants.counters(metrics.body.decode())
            self._note(*invariants.fallen(self._counters, now))
            self._note(*invariants.miscounted(runs, now))
            self._counters = now
        if report.status == 200:
            told = json.loads(report.body)
            if self.sick is not None:
                self._note(*invariants.wrong_verdicts(told["results"], self.sick))
            # What the log lost was told to nobody, so that it can be told no more to be newer.
            if not self._life.events("log_lines_dropped"):
                self._note(*invariants.lost(runs, told))
        if self.sick:
            self._note(*invariants.unfounded(contents(self._files)))
        if self.sick is not None:
            lines = list(self._life.lines)
            results = [line for line in lines[self._seen :] if line["event"] == "result"]
            self._note(*invariants.wrong_verdicts(results, self.sick))
            self._seen = len(lines)

    def _sample(self) -> None:
        """Note what the daemon holds between two runs."""
        if not self.may_sample or not self._life.is_between_runs():
            return
        at_s, pid = time.monotonic() - self._began, self._life.pid
        sample = invariants.Sample(at_s, rss_kib(pid), descriptors(pid))
        if sample.descriptors and sample.rss_kib:
            self.samples.append(sample)

    def _look_at_children(self) -> None:
        now, dead = time.monotonic(), zombies(self._life.pid)
        self._dead = {pid: self._dead.get(pid, now) for pid in dead}
        for pid, since in self._dead.items():
            if now - since > _ZOMBIE_S and not self._is_excused(since):
                self._note(f"the child {pid} is dead and not reaped")

    def _note(self, *texts: str) -> None:
        self.violations += [text for text in texts if text not in self.violations]
