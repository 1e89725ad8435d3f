"""Runs loaders whose workers end with them, and with this process, whatever happens.

Workers are forked: `spawn` and `forkserver` would import torch anew, for seconds, in interpreters
that do not find our package. The dataset touches no device, so that a fork is safe for it.
"""

import errno
import os
import resource
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.context import ForkContext, ForkProcess
from multiprocessing.process import BaseProcess, current_process
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from probes.kit.lifetime import die_with_parent
from probes.pidfd import is_stopped

#: The longest wait for a batch, and for a worker's end. A worker that is slower hangs.
WAIT_S: Final = 30.0
#: A loader's own limit: after each it looks whether its workers live.
_LOOK_S: Final = 0.1

#: From the end of a worker's sockets to its own.
_ENDS_S: Final = 2.0

#: What is held open at a time, beside what is open already: most of it for the tensors of a sample.
_DESCRIPTORS: Final = 160
#: Threads at a time: of two workers, of the queues, and of those that pass descriptors on.
_THREADS: Final = 12
#: Signals that others send, or a limit of the host; a process that is wrong ends by another one.
_OF_OTHERS: Final = (
    *(signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPWR, signal.SIGXCPU),
)

Start = Callable[[int], None]


class _Forks(ForkContext):
    """A way to start workers, which keeps those that were started, the dead ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *given: Any, **named: Any) -> ForkProcess:  # type: ignore[override] # noqa: N802
        """Make a worker's process, and keep it."""
        process = ForkProcess(*given, **named)
        self.started.append(process)
        return process


class _Start:
    """The first call in a worker: it is to end with this process; then the trial's own call."""

    def __init__(self, own: Start | None) -> None:
        self._parent = os.getpid()
        self._own = own

    def __call__(self, worker: int) -> None:
        die_with_parent(self._parent)
        if self._own is not None:
            self._own(worker)


def loader(dataset: Dataset[Any], workers: int, **options: Any) -> DataLoader[Any]:
    """A loader with that number of forked workers, and a bound on each wait for a batch."""
    if workers:
        start = _Start(options.pop("worker_init_fn", None))
        options = {"timeout": _LOOK_S, **options, "worker_init_fn": start}
        options["multiprocessing_context"] = _Forks()
    return DataLoader(dataset, num_workers=workers, **options)


def gathered(dataset: Dataset[Any], workers: int, **options: Any) -> list[Any]:
    """All batches of one pass, after which no worker is left."""
    with iterating(loader(dataset, workers, **options)) as batches:
        return list(batches)


class KilledByOthersError(RuntimeError):
    """Somebody else ended or stopped a worker: that says nothing about torch."""


def need_room() -> None:
    """Make sure that the host lets workers start: what it refuses them they tell nobody.

    Raises:
        OSError: too few descriptors are left.
        RuntimeError: too few threads can be started.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len([*Path("/proc/self/fd").iterdir()])
    if limit != resource.RLIM_INFINITY and limit - used < _DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(_THREADS)]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    finally:
        over.set()
        for thread in started:
            thread.join()


class _Patient:
    """An iterator that waits for a batch until it has looked for it so many times.

    Looks are counted, not the time that passed: in a paused container no worker makes a batch.
    """

    def __init__(self, iterator: Any, looks: int) -> None:
        self._iterator = iterator
        self._looks = looks

    def __iter__(self) -> "_Patient":
        return self

    def __next__(self) -> Any:
        looks = 1
        while True:
            try:
                return next(self._iterator)
            except RuntimeError as error:
                if "timed out" not in str(error) or looks >= self._looks:
                    raise
            looks += 1


def patient(iterator: Any) -> "_Patient":
    """A loader's iterator that waits for a batch as long as a slow machine may need."""
    return _Patient(iterator, round(WAIT_S / _LOOK_S))


def _started(loader: DataLoader[Any]) -> list[BaseProcess]:
    """The workers of a loader that were started until now."""
    started: list[BaseProcess] = getattr(loader.multiprocessing_context, "started", [])
    return started


def _done_by_others(worker: BaseProcess) -> str:
    """What somebody else did to a worker, in words; empty where nobody did anything."""
    code = worker.exitcode
    if code is None and is_stopped(worker.pid or 0):
        return "stopped from outside (SIGSTOP, a debugger)"
    if code is not None and -code in _OF_OTHERS:
        return f"ended from outside, by {signal.Signals(-code).name}"
    return ""


def raise_if_by_others(loader: DataLoader[Any], spared: int = 0) -> None:
    """Raise an error where somebody else ended or stopped one of the workers of a loader.

    Args:
        loader: one that `loader` made.
        spared: the worker that the trial itself ends.

    Raises:
        KilledByOthersError: that is so.
    """
    for worker in _started(loader):
        if worker.pid != spared and (what := _done_by_others(worker)):
            raise KilledByOthersError(f"a worker was {what}")


@contextmanager
def telling_of_others(
    loader: DataLoader[Any], own_victim: Callable[[], int] = lambda: 0
) -> Iterator[None]:
    """Raise an error of its own in place of any, where somebody else ended or stopped a worker.

    Args:
        loader: one that `loader` made.
        own_victim: says which worker the trial itself ends.

    Raises:
        KilledByOthersError: that is so.
        RuntimeError: in place of one, where a worker died by another signal, which torch does not
            tell, and in place of an error of a pipe or socket, which others have closed.
    """
    try:
        yield
    except Exception as error:
        broken = isinstance(error, (ConnectionError, EOFError, FileNotFoundError))
        if broken:
            _let_one_end(loader)
        try:
            raise_if_by_others(loader, own_victim())
        except KilledByOthersError as by_others:
            raise by_others from error
        name = _fatal_signal(loader)
        if broken or (type(error) is RuntimeError and name):
            why = f": a worker died by {name}" if name else ""
            raise RuntimeError(f"{error}{why}") from error
        raise


def _let_one_end(loader: DataLoader[Any]) -> None:
    """Wait a moment for a worker to end: its sockets are closed before it can be reaped."""
    for _ in range(int(_ENDS_S / _LOOK_S)):
        if any(worker.exitcode is not None for worker in _started(loader)):
            return
        time.sleep(_LOOK_S)


def _fatal_signal(loader: DataLoader[Any]) -> str:
    """The name of a signal that ended a worker; empty where none did."""
    codes = [worker.exitcode or 0 for worker in _started(loader)]
    return next((signal.Signals(-code).name for code in codes if code < 0), "")


@contextmanager
def iterating(
    loader: DataLoader[Any], own_victim: Callable[[], int] = lambda: 0, *, once: bool = False
) -> Iterator[Iterator[Any]]:
    """Iterate over a loader; in the end its workers are told to end, or killed, and reaped.

    Args:
        loader: one that `loader` made.
        own_victim: says which worker the trial itself ends.
        once: whether a batch is looked for once, or until the longest wait is over.

    Raises:
        KilledByOthersError: in place of what was raised, where somebody else ended or stopped a
            worker.
    """
    before = active_children()
    iterator: Any = None
    try:
        with telling_of_others(loader, own_victim):
            iterator = iter(loader)
            yield iterator if once else patient(iterator)
    finally:
        getattr(iterator, "_shutdown_workers", lambda: None)()
        _kill([child for child in active_children() if child not in before])


def _kill(children: list[BaseProcess]) -> None:
    for child in children:
        child.kill()
    for child in children:
        child.join(WAIT_S)


@contextmanager
def _no_handler_of_children() -> Iterator[None]:
    """Without a handler of SIGCHLD, which only the main thread can change.

    Torch's own raises an error of its worker wherever this process is: inside a queue it leaves
    locks behind that nobody opens again, and the loader's end waits for ever. A loader with a limit
    finds out for itself whether its workers live. That of others may reap them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = signal_handling._SIGCHLD_handler_set
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal_handling._SIGCHLD_handler_set = True
    try:
        yield
    finally:
        signal_handling._SIGCHLD_handler_set = known
        if before is not None:  # else it was not set by Python
            signal.signal(signal.SIGCHLD, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No handler of SIGCHLD and no warnings; they and the random state are restored."""
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings(), _own_sockets(), _no_handler_of_children():
            # That there are more workers than cores, or that a process with threads is forked.
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def _own_sockets() -> Iterator[None]:
    """A folder for the sockets by which workers pass descriptors on, which is removed at the end.

    Otherwise a worker that is killed would leave its own behind. It is named like those, since the
    length of a socket's path is limited.
    """
    config: Any = current_process()._config  # type: ignore[attr-defined]
    before = config.get("tempdir")
    with tempfile.TemporaryDirectory(prefix="pymp-", ignore_cleanup_errors=True) as folder:
        config["tempdir"] = folder
        try:
            yield
        finally:
            config["tempdir"] = before
