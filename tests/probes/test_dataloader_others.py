"""What others and the host do to a loader's workers is told as such; what torch does is its own."""

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from probes.dataloader import ending, failing, probe, running
from probes.dataloader.datasets import Calls, Flag, Places
from probes.dataloader.running import KilledByOthersError, gathered, iterating, loader
from probes.faults.inject import loading
from probes.kit.trial import Custom, run_trials
from probes.pidfd import is_stopped
from tests.probes.test_dataloader import is_running

pytestmark = pytest.mark.slow

BY_OTHERS: Final = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGUSR2", "SIGXCPU")
BY_ITSELF: Final = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has the handler of signals and the random state that it found; torch waits less."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    with running.undisturbed():
        yield


def signalled(number: int, index: int) -> int:
    """Sample 1 comes from a worker that gets a signal before."""
    if index == 1:
        os.kill(os.getpid(), number)
    return index


def samples(call: Callable[[int], Any]) -> list[Any]:
    """Four samples of two workers."""
    return gathered(Calls(4, call), 2, batch_size=None)


def problem(call: Callable[[int], Any]) -> str:
    """What the trial of a check says of samples that do not come."""
    (comparison,), _ = run_trials([Custom("samples", lambda _: samples(call))], "cpu")
    return comparison.problem


# ---- workers that others end or stop


@pytest.mark.parametrize("name", BY_OTHERS)
def test_a_worker_that_others_end(name: str) -> None:
    """The signal is named, and the check says who did it."""
    told = problem(partial(signalled, signal.Signals[name]))

    assert told == f"raised KilledByOthersError: a worker was ended from outside, by {name}"


@pytest.mark.parametrize("name", BY_ITSELF)
def test_a_worker_that_crashes(name: str) -> None:
    """Torch's own error goes up, which is a failure."""
    told = problem(partial(signalled, signal.Signals[name]))

    assert told.startswith("raised RuntimeError: DataLoader worker (pid")
    assert told.endswith(f"a worker died by {name}")


def test_a_worker_that_leaves() -> None:
    """Without a signal nobody else did it."""
    told = problem(lambda index: index if index != 1 else os._exit(1))

    assert told.startswith("raised RuntimeError: DataLoader worker (pid")


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is looked for three times."""
    monkeypatch.setattr(running, "WAIT_S", 0.3)


@pytest.mark.usefixtures("_hasty")
def test_a_worker_that_others_stop() -> None:
    """Its batch never comes, and it does not end: it is killed."""
    told = problem(partial(signalled, signal.SIGSTOP))

    assert "stopped from outside" in told


def test_a_worker_that_others_stop_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has given all samples, and does not end as it should."""
    monkeypatch.setattr(ending, "ENDS_S", 0.1)
    seen: list[int] = []

    def stop_first(condition: Callable[[], bool]) -> bool:
        os.kill(seen[0], signal.SIGSTOP)
        while not is_stopped(seen[0]):
            time.sleep(0.01)
        return condition()

    monkeypatch.setattr(ending, "_until", stop_first)
    source = loader(Places(4), 2, batch_size=None)
    with iterating(source) as batches:
        seen += [next(batches)[2], next(batches)[2]]
        with pytest.raises(KilledByOthersError, match="stopped"):
            ending._ended(source, set(seen))

    assert not any(map(is_running, seen))


def test_a_worker_that_others_kill_in_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises of it there is told as such too."""
    make = DataLoader.__iter__

    def start(self: Any) -> Any:
        iterator: Any = make(self)
        os.kill(iterator._workers[0].pid, signal.SIGKILL)
        iterator._workers[0].join()
        raise RuntimeError("a pipe is broken")

    monkeypatch.setattr(DataLoader, "__iter__", start)

    assert "KilledByOthersError" in problem(lambda index: index)


def test_the_trial_s_own_victim_is_no_other_s() -> None:
    """The check that kills a worker holds; a second one that is killed beside it is others'."""
    assert all(each.holds for each in failing._dead("killed", failing._be_killed, "cpu"))

    def kill_both() -> None:
        parent = os.getppid()
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8")
        both = [int(pid) for pid in listed.split()]
        for pid in (*(each for each in both if each != os.getpid()), os.getpid()):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(KilledByOthersError):
        list(failing._dead("killed", kill_both, "cpu"))


@pytest.mark.parametrize(
    ("name", "told"), [("SIGKILL", "by SIGKILL"), ("SIGSEGV", "a worker died by SIGSEGV")]
)
def test_a_socket_that_breaks_is_told_by_its_worker(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed before the worker has ended; such an error does not end the probe."""
    number = signal.Signals[name]

    def broken(self: Any) -> Any:
        os.kill(self._workers[0].pid, number)
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(loading._loading, "_next_data", broken)

    assert told in problem(lambda index: index)


def test_a_worker_that_is_killed_leaves_no_lock_shut() -> None:
    """Of what a worker waits for."""
    gate = Flag()
    gate.wait(0.01)
    process = multiprocessing.get_context("fork").Process(target=gate.wait, args=(60,))
    process.start()
    process.kill()
    process.join()
    gate.set()
    gate.wait(60)


def test_what_others_did_is_told_in_the_check_of_errors_too() -> None:
    """It looks at whatever error arrives, and this is none of its samples."""
    with pytest.raises(KilledByOthersError):
        failing._outcome(Calls(4, partial(signalled, signal.SIGKILL)), 2, batch_size=None)


# ---- waits


def slow(seconds: float, index: int) -> int:
    """A sample that takes as long."""
    time.sleep(seconds if index == 1 else 0)
    return index


def test_a_batch_is_looked_for_again() -> None:
    """As where the container was paused: a look was over before the worker went on."""
    assert samples(partial(slow, 0.3)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "check",
    [
        "endings",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in sorted(probe.FAMILIES.keys() - {"endings", "pinned", "forked_use"})
        ),
    ],
)
def test_no_trial_takes_one_look_for_all(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a batch is patient, in every family: the first look is early."""
    look: Any = _MultiProcessingDataLoaderIter._try_get_data

    def late(self: Any, *given: Any, **named: Any) -> Any:
        if not hasattr(self, "looked"):
            self.looked = True
            return False, None
        return look(self, *given, **named)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", late)
    comparisons, _ = run_trials(probe.FAMILIES[check]("cpu"), "cpu")

    assert [str(each) for each in comparisons if not each.holds] == []


@pytest.mark.usefixtures("_hasty")
def test_a_batch_that_never_comes_is_a_failure() -> None:
    """After the last look, and the worker is killed."""
    began = time.monotonic()
    told = problem(partial(slow, 600))

    assert told.startswith("raised RuntimeError: DataLoader timed out after 0.1 seconds")
    assert 0.3 <= time.monotonic() - began < 20


def test_a_worker_that_dies_unnoticed_costs_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch knows its number its end is no signal to torch."""
    make = running._Forks.Process

    def start(self: Any, *given: Any, **named: Any) -> Any:
        process: Any = make(self, *given, **named)
        process.run = partial(os._exit, 1)
        return process

    monkeypatch.setattr(running._Forks, "Process", start)
    began = time.monotonic()
    told = problem(lambda index: index)

    assert "exited unexpectedly" in told
    assert time.monotonic() - began < running.WAIT_S / 3


def test_a_loader_raises_nothing_out_of_a_signal() -> None:
    """Torch's handler of SIGCHLD would, in the midst of a queue's work, which locks it for ever."""
    source = loader(Calls(4, int), 2, batch_size=None)
    with iterating(source) as batches:
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        assert list(batches) == [0, 1, 2, 3]


def test_handlers_of_others_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their handler of SIGCHLD might reap the workers; torch's may be set by a loader of theirs."""

    def own(*_: object) -> None: ...

    before = signal.signal(signal.SIGCHLD, own)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    try:
        with running.undisturbed():
            assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGCHLD) == own
        assert not signal_handling._SIGCHLD_handler_set
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_trial_about_the_limit_waits_once() -> None:
    """The loader's own, of which it must tell."""
    began = time.monotonic()

    assert all(each.holds for each in failing._hanging("cpu"))
    assert time.monotonic() - began < running.WAIT_S / 3


def test_what_is_no_wait_is_not_tried_again() -> None:
    """Another error goes up at once."""
    calls: list[int] = []

    def fail(_: Any) -> Any:
        calls.append(1)
        raise RuntimeError("no such batch")

    patient = running._Patient(type("Iterator", (), {"__next__": fail})(), 9)
    with pytest.raises(RuntimeError, match="no such batch"):
        next(patient)

    assert calls == [1]


def test_looks_are_counted_not_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is paused for a day has not waited; what never holds is not waited for."""
    now_s = iter(range(0, 10**9, 86400))
    looks: list[int] = []
    monkeypatch.setattr(time, "monotonic", lambda: next(now_s))
    monkeypatch.setattr(time, "sleep", lambda _s: looks.append(1))
    monkeypatch.setattr(ending, "ENDS_S", 0.1)

    assert ending._until(lambda: len(looks) == 3)
    assert not ending._until(lambda: False)
    assert len(looks) <= 3 + 0.1 / ending._POLL_S


# ---- room for workers


def test_room_for_workers_is_here() -> None:
    """Nothing is refused, and no thread is left."""
    before = threading.active_count()
    running.need_room()

    assert threading.active_count() == before


def test_too_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before a worker is started: one whose descriptors do not arrive tells nothing."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    with pytest.raises(OSError, match="Too many open files"):
        running.need_room()

    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    running.need_room()


def test_too_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that could be started end."""
    before, start, left = threading.active_count(), threading.Thread.start, iter(range(5))

    def refuse(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        running.need_room()

    assert threading.active_count() == before
