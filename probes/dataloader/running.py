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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.process import BaseProcess, current_process
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from probes.kit.lifetime import die_with_parent

#: The longest wait for a batch, and for a worker's end. A worker that is slower hangs.
WAIT_S: Final = 30.0

#: What is held open at a time, beside what is open already: most of it for the tensors of a sample.
_DESCRIPTORS: Final = 160
#: Threads at a time: of two workers, of the queues, and of those that pass descriptors on.
_THREADS: Final = 12
#: Signals by which others end a process; a process that is wrong ends by another one.
_OF_OTHERS: Final = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT)

Start = Callable[[int], None]


class _Started:
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
        started = _Started(options.pop("worker_init_fn", None))
        options = {"timeout": WAIT_S, **options, "worker_init_fn": started}
        options["multiprocessing_context"] = "fork"
    return DataLoader(dataset, num_workers=workers, **options)


def gathered(dataset: Dataset[Any], workers: int, **options: Any) -> list[Any]:
    """All batches of one pass, after which no worker is left."""
    with iterating(loader(dataset, workers, **options)) as batches:
        return list(batches)


class KilledByOthersError(RuntimeError):
    """Somebody else ended a worker: that says nothing about torch."""


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
    """An iterator that waits once more: a wait is none in which the container was paused."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __iter__(self) -> "_Patient":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except RuntimeError as error:
            if "timed out" not in str(error):
                raise
        return next(self._iterator)


@contextmanager
def telling_of_others(workers: list[BaseProcess]) -> Iterator[None]:
    """Raise an error of its own in place of any, where somebody else killed a worker.

    Raises:
        KilledByOthersError: that is so.
    """
    try:
        yield
    except Exception as error:
        signals = [-(each.exitcode or 0) for each in workers if each.exitcode in _OF_OTHERS]
        if not signals:
            raise
        name = signal.Signals(signals[0]).name
        raise KilledByOthersError(f"a worker was ended from outside, by {name}") from error


@contextmanager
def iterating(loader: DataLoader[Any], *, kills: bool = False) -> Iterator[Iterator[Any]]:
    """Iterate over a loader; in the end its workers are told to end, or killed, and reaped.

    `kills`: a worker may be killed, for the trial does it.

    Raises:
        KilledByOthersError: in place of what was raised, where somebody else killed a worker.
    """
    before = active_children()
    iterator: Any = None
    try:
        iterator = iter(loader)
        workers = [] if kills else getattr(iterator, "_workers", [])
        with telling_of_others(workers):
            yield _Patient(iterator)
    finally:
        with _handler_of_children(signal.SIG_DFL):
            getattr(iterator, "_shutdown_workers", lambda: None)()
            _kill([child for child in active_children() if child not in before])


def _kill(children: list[BaseProcess]) -> None:
    for child in children:
        child.kill()
    for child in children:
        child.join(WAIT_S)


@contextmanager
def _handler_of_children(handler: Any = None) -> Iterator[None]:
    """Replace the handler of SIGCHLD, or leave it, and restore it; only the main thread can.

    While a loader is there, torch's handler raises an error of its worker wherever this process is.
    """
    before = signal.getsignal(signal.SIGCHLD)
    possible = threading.current_thread() is threading.main_thread() and before is not None
    if possible and handler is not None:
        signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        if possible:
            signal.signal(signal.SIGCHLD, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the random state and the handler of SIGCHLD, which loaders replace; no warnings."""
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings(), _own_sockets(), _handler_of_children():
            # That there are more workers than cores, or that a process with threads is forked.
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(state)
        signal_handling._SIGCHLD_handler_set = False  # the next loader sets it again


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
