"""What must hold is seen to be broken where it is, and only there."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import calls, invariants
from tests.chaos.calls import Call
from tests.chaos.invariants import Runs, Sample
from tests.chaos.life import Answer
from tests.chaos.watch import Watch

ROOT = Path(__file__).parents[2]

SICK = {"fake:1": frozenset({"autograd"})}


def result(
    probe: str = "autograd", device: str = "fake:0", status: str = "pass", **more: Any
) -> dict[str, Any]:
    """A line of the log, or a result of a report."""
    reason = {"pass": "ok", "fail": "check_failed"}.get(status, "internal_error")
    line = {"probe": probe, "device": device, "status": status, "reason": reason, "summary": "so"}
    return {"event": "result", **line, **more}


def log(*told: dict[str, Any], run: str = "r") -> list[dict[str, Any]]:
    """The lines of a finished run."""
    return [{"event": "run_started"}, *told, {"event": "run_finished", "run_id": run}]


def metrics(count: int, probe: str = "autograd") -> str:
    """An exposition that counts the results of a probe."""
    return f'gpu_validator_probe_runs_total{{probe="{probe}",status="pass"}} {count}.0\n'


RUNS = Runs.of(log(result(), result(device="fake:1", status="fail")))
REPORT = {"run_id": "r", "results": [result(), result(device="fake:1", status="fail")]}
NEWER = Runs.of([*log(result(), run="q"), *log(result(status="error"))])
READY = "2026-01-01T00:00:00Z\npass: all\nby: gpu-validator\nfrom: 1\nuntil: 2\n"
LABELS = "feature.node.kubernetes.io/gpu-validator.ready=true\n"

_Check = Callable[[], list[str]]

#: What is kept, and what breaks it.
CASES: dict[str, tuple[_Check, _Check]] = {
    "a counter falls": (
        lambda: invariants.fallen({"a_total": 2}, {"a_total": 2}),
        lambda: invariants.fallen({"a_total": 2}, {"a_total": 1}),
    ),
    "a counter goes away": (
        lambda: invariants.fallen({"process_cpu_seconds_total": 2}, {}),
        lambda: invariants.fallen({"a_total": 2}, {}),
    ),
    "a sound device is blamed": (
        lambda: invariants.wrong_verdicts([result(), result(status="error")], SICK),
        lambda: invariants.wrong_verdicts([result(status="fail")], SICK),
    ),
    "a sound probe of a sick device is blamed": (
        lambda: invariants.wrong_verdicts([result("amp", "fake:1")], SICK),
        lambda: invariants.wrong_verdicts([result("amp", "fake:1", "fail")], SICK),
    ),
    "a sick device passes": (
        lambda: invariants.wrong_verdicts([result(device="fake:1", status="fail")], SICK),
        lambda: invariants.wrong_verdicts([result(device="fake:1")], SICK),
    ),
    "a result that was told is in no report": (
        lambda: invariants.lost(RUNS, REPORT),
        lambda: invariants.lost(RUNS, {**REPORT, "results": [result()]}),
    ),
    "a report says something else": (
        lambda: invariants.lost(NEWER, {"run_id": "r", "results": [result(status="error")]}),
        lambda: invariants.lost(NEWER, {"run_id": "r", "results": [result()]}),
    ),
    "results are not counted": (
        lambda: invariants.miscounted(RUNS, invariants.counters(metrics(2))),
        lambda: invariants.miscounted(RUNS, invariants.counters(metrics(1))),
    ),
    "it does not end": (
        lambda: invariants.unclear_end(0, 1, ""),
        lambda: invariants.unclear_end(None, 10, ""),
    ),
    "it ends with a traceback": (
        lambda: invariants.unclear_end(2, 1, "gpu-validator: error: no memory"),
        lambda: invariants.unclear_end(2, 1, "MemoryError"),
    ),
    "it calls it a bug": (
        lambda: invariants.unclear_end(2, 1, '{"event": "cannot_start"}'),
        lambda: invariants.unclear_end(2, 1, "gpu-validator: internal error: so (a bug of ours)"),
    ),
    "it ends as a sick node does": (
        lambda: invariants.unclear_end(2, 1, "gpu-validator: error: so"),
        lambda: invariants.unclear_end(1, 1, "gpu-validator: error: so"),
    ),
    "a file vouches after the end": (
        lambda: invariants.vouching({"ready": "2026-01-01T00:00:00Z\npass: all\n"}),
        lambda: invariants.vouching({"ready": READY}),
    ),
    "a draft is left": (
        lambda: invariants.vouching({}),
        lambda: invariants.vouching({".gpu-validator-draft-0": ""}),
    ),
    "a file vouches for a sick node": (
        lambda: invariants.unfounded({"ready": "", "nfd": LABELS.replace("true", "false")}),
        lambda: invariants.unfounded({"ready": READY}),
    ),
    "labels vouch for a sick node": (
        lambda: invariants.unfounded({}),
        lambda: invariants.unfounded({"nfd": LABELS}),
    ),
    "labels never expire": (
        lambda: invariants.everlasting({"nfd": f"# +expiry-time=2026-01-01T00:00:00Z\n{LABELS}"}),
        lambda: invariants.everlasting({"nfd": LABELS}),
    ),
    "memory grows": (
        lambda: _grown([100, 900, 100, 500, 900, 120], [9] * 6),
        lambda: _grown([100, 100, 100, 900, 900, 900], [9] * 6),
    ),
    "descriptors grow": (
        lambda: _grown([100] * 6, [9, 20, 9, 9, 20, 20]),
        lambda: _grown([100] * 6, [9, 9, 9, 20, 20, 20]),
    ),
}


def _grown(rss: list[int], descriptors: list[int]) -> list[str]:
    samples = [Sample(float(n), *both) for n, both in enumerate(zip(rss, descriptors, strict=True))]
    return invariants.grown(samples, most_kib=100, most_descriptors=2)


@pytest.mark.parametrize(("kept", "broken"), CASES.values(), ids=CASES)
def test_in_both_directions(kept: _Check, broken: _Check) -> None:
    """Nothing is said of what holds; what is broken is told once."""
    assert kept() == []
    assert len(broken()) == 1


def test_a_slope_is_an_hour_s() -> None:
    """Of a straight line exactly; none of a single point."""
    assert invariants.slope_per_hour([(0, 5), (10, 6), (20, 7)]) == pytest.approx(360)
    assert invariants.slope_per_hour([(0, 5)]) == 0


class FakeLife:
    """A life that answers what it is told to."""

    pid = 0

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = log(result())
        self.pages = {
            "/healthz": Answer(200, b"ok", 0.01),
            "/metrics": Answer(200, metrics(3).encode(), 0.01),
            "/api/v1/report": Answer(
                200, json.dumps({"run_id": "r", "results": [result()]}).encode(), 0.01
            ),
        }

    def get(self, path: str, _: float = 0) -> Answer:
        """A page."""
        return self.pages[path]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of an event."""
        return [line for line in self.lines if line["event"] == name]


def looked_at(folder: Path, *changes: Callable[[FakeLife], None]) -> list[str]:
    """What a watch says of a life that is changed between two looks."""
    life = FakeLife()
    watch = Watch(life, folder)  # type: ignore[arg-type]
    watch.sick = SICK
    for change in (lambda _: None, *changes):
        change(life)
        watch.look_at_health()
        watch.look_at_pages()
    return watch.violations


def _answer(path: str, answer: Answer) -> Callable[[FakeLife], None]:
    return lambda life: life.pages.update({path: answer})


def _tell(*lines: dict[str, Any]) -> Callable[[FakeLife], None]:
    return lambda life: life.lines.extend(lines)


#: A change of a sound life, and a word of what must be said of it.
CHANGES: dict[str, tuple[Callable[[FakeLife], None], str]] = {
    "no answer": (_answer("/healthz", Answer(0, b"", 5.0)), "answered 0"),
    "a late answer": (_answer("/healthz", Answer(200, b"ok", 1.5)), "after 1.50 s"),
    "stuck": (_answer("/healthz", Answer(503, b"stuck", 0.0)), "answered 503 'stuck'"),
    "a counter falls": (_answer("/metrics", Answer(200, metrics(2).encode(), 0)), "fell from 3"),
    "a wrong verdict in the log": (_tell(result(status="fail")), "is sound"),
    "a wrong verdict in a report": (
        _answer(
            "/api/v1/report",
            Answer(
                200, json.dumps({"run_id": "q", "results": [result(status="fail")]}).encode(), 0
            ),
        ),
        "is sound",
    ),
    "a lost result": (
        _answer("/api/v1/report", Answer(200, b'{"run_id": "r", "results": []}', 0)),
        "is in no report",
    ),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_a_watch_sees_what_is_planted(
    tmp_path: Path, change: Callable[[FakeLife], None], said: str
) -> None:
    """One violation, that says what; the same life without it has none."""
    assert looked_at(tmp_path) == []
    assert len(seen := looked_at(tmp_path, change)) == 1
    assert said in seen[0]


def test_a_watch_reads_the_status_files(tmp_path: Path) -> None:
    """One of the devices is sick, so that none of them may vouch."""
    (tmp_path / "ready").write_text(READY, encoding="utf-8")

    assert "vouches for a node that fails" in looked_at(tmp_path)[0]


def test_a_watch_excuses_what_is_done_to_the_daemon_itself(tmp_path: Path) -> None:
    """A stopped daemon cannot answer, and has a moment to come back."""
    life = FakeLife()
    watch = Watch(life, tmp_path)  # type: ignore[arg-type]
    life.pages["/healthz"] = Answer(0, b"", 5.0)
    with watch.excused(0.0):
        watch.look_at_health()
    assert watch.violations == []
    deadline = time.monotonic() + 5
    while not watch.violations and time.monotonic() < deadline:
        watch.look_at_health()
    assert watch.violations


def test_a_trace_is_read_with_its_phases(tmp_path: Path) -> None:
    """What comes after the line that it listens is of the daemon that serves."""
    trace = tmp_path / "trace"
    trace.write_text(
        f"open64 1 /x y\t<frozen importlib._bootstrap>:1<{ROOT}/validator/report.py:3\n"
        f'write 1 {{"event": "listening"}}\t/usr/lib/logging.py:9<{ROOT}/validator/log.py:4\n'
        "read 1 \t\n",
        encoding="utf-8",
    )

    assert list(calls.read_trace(trace, 2)) == [
        Call(2, "open64", 1, "/x y", "2 open64 import validator/report.py", imports=True),
        Call(
            2,
            "write",
            1,
            '{"event": "listening"}',
            "2 serving write /usr/lib/logging.py:9 validator/log.py:4",
            serves=True,
        ),
        Call(2, "read", 1, "", "2 serving read  ", serves=True),
    ]


def _rng() -> random.Random:
    return random.Random(3)  # noqa: S311 - to be repeated


def test_each_site_comes_once_before_any_twice() -> None:
    """Those of a daemon that serves first, an import's last; a seed repeats the order."""
    several = [Call(2, "read", number, "", "a") for number in range(50)]
    serving = Call(2, "socket", 1, "", "b", serves=True)
    imported = Call(2, "stat64", 1, "", "c", imports=True)
    every = [*several, imported, serving]
    order = calls.in_order(every, _rng())

    assert [one.site for one in order[:4]] == ["b", "a", "c", "a"]
    assert set(order) == set(every)
    assert order == calls.in_order(every, _rng())


@pytest.mark.parametrize("name", ["open64", "fstatat64", "epoll_wait", "killpg", "lseek64"])
def test_each_call_has_an_errno_to_fail_with(name: str) -> None:
    """By the beginning of its name."""
    assert all(number > 0 for number in calls.errors_of(name))
