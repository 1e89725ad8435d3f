"""What is left after a loader: no process, descriptor, thread or file."""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any, Final

from probes.contract import Comparison
from probes.dataloader.datasets import Places
from probes.dataloader.memory import FOLDER
from probes.dataloader.running import iterating, loader
from probes.kit.trial import Custom, Trial, fact

#: Loaders after which descriptors and threads are counted: fewer more than loaders is no leak.
_LOADERS: Final = 3
_POLL_S: Final = 0.002

#: The longest wait for what ends by itself; torch itself waits five seconds for a worker.
ENDS_S = 15.0


def endings(_device: str) -> Iterator[Trial]:
    """Loaders that ran to their end, and one that was dropped after its first batch."""
    yield Custom("run to the end", _finished)
    yield Custom("dropped", _dropped)
    yield Custom("left behind", _left_behind)


def _until(holds: Callable[[], bool]) -> bool:
    """Whether it holds, or does so before the longest wait is over."""
    deadline = time.monotonic() + ENDS_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _living(pids: set[int]) -> list[int]:
    """Those of our processes that have not ended."""
    return [child.pid for child in active_children() if child.pid in pids and child.is_alive()]


def _ended(pids: set[int]) -> bool:
    return _until(lambda: not _living(pids))


def _finished(_device: str) -> Iterator[Comparison]:
    with iterating(loader(Places(4), 2, batch_size=None)) as batches:
        pids = {pid for *_, pid, _ in batches}
        yield fact("run to the end (processes)", len(pids), 2)
        yield fact("run to the end (they ended)", _ended(pids), True)


def _dropped(_device: str) -> Iterator[Comparison]:
    batches: Any = iter(loader(Places(64), 2, batch_size=None))
    pids = {next(batches)[2], next(batches)[2]}
    del batches
    gc.collect()
    yield fact("dropped (they ended)", _ended(pids), True)


def _counts() -> tuple[int, int]:
    return len([*Path("/proc/self/fd").iterdir()]), threading.active_count()


def _left_behind(_device: str) -> Iterator[Comparison]:
    def run() -> set[int]:
        with iterating(loader(Places(2), 1)) as batches:
            return {int(pid) for *_, pids, _ in batches for pid in pids}

    run()  # what the first one opens stays
    before = _counts()
    pids = {os.getpid()}.union(*(run() for _ in range(_LOADERS)))

    def grown() -> list[bool]:
        return [now - then >= _LOADERS for now, then in zip(_counts(), before, strict=True)]

    yield fact("left behind (descriptors, threads)", _until(lambda: not any(grown())), True)
    own = tuple(f"torch_{pid}_" for pid in pids)
    left = [file.name for file in Path(FOLDER).iterdir() if file.name.startswith(own)]
    yield fact("left behind (files)", left, [])
