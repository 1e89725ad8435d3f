"""What is left after a loader: no process, descriptor, thread or file."""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any, Final

from torch.utils.data import DataLoader

from probes.contract import Comparison
from probes.dataloader.datasets import Places
from probes.dataloader.memory import FOLDER
from probes.dataloader.running import (
    iterating,
    loader,
    patient,
    raise_if_by_others,
    telling_of_others,
)
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
    """Whether it holds, or does so before the longest wait is over.

    Looks are counted, not the time that passed: in a paused container no worker can end.
    """
    for _ in range(int(ENDS_S / _POLL_S)):
        if holds():
            return True
        time.sleep(_POLL_S)
    return holds()


def _living(pids: set[int]) -> list[int]:
    """Those of our processes that have not ended."""
    return [child.pid for child in active_children() if child.pid in pids and child.is_alive()]


def _ended(source: DataLoader[Any], pids: set[int]) -> bool:
    """Whether the workers of a loader have ended, or do so soon."""
    ended = _until(lambda: not _living(pids))
    if not ended:
        raise_if_by_others(source)
    return ended


def _finished(_device: str) -> Iterator[Comparison]:
    source = loader(Places(4), 2, batch_size=None)
    with iterating(source) as batches:
        pids = {pid for *_, pid, _ in batches}
        yield fact("run to the end (processes)", len(pids), 2)
        yield fact("run to the end (they ended)", _ended(source, pids), True)


def _begun(source: DataLoader[Any]) -> set[int]:
    """The workers of an iterator that is dropped after two samples."""
    with telling_of_others(source):
        batches = patient(iter(source))
        return {next(batches)[2], next(batches)[2]}


def _dropped(_device: str) -> Iterator[Comparison]:
    source = loader(Places(64), 2, batch_size=None)
    pids = _begun(source)
    gc.collect()
    yield fact("dropped (they ended)", _ended(source, pids), True)


def _counts() -> tuple[int, int]:
    return len([*Path("/proc/self/fd").iterdir()]), threading.active_count()


def _files() -> set[str]:
    return {file.name for file in Path(FOLDER).iterdir()}


def _left_behind(_device: str) -> Iterator[Comparison]:
    def run() -> set[int]:
        with iterating(loader(Places(2), 1)) as batches:
            return {int(pid) for *_, pids, _ in batches for pid in pids}

    run()  # what the first one opens stays
    before, others = _counts(), _files()
    pids = {os.getpid()}.union(*(run() for _ in range(_LOADERS)))

    def grown() -> list[bool]:
        return [now - then >= _LOADERS for now, then in zip(_counts(), before, strict=True)]

    yield fact("left behind (descriptors, threads)", _until(lambda: not any(grown())), True)
    own = tuple(f"torch_{pid}_" for pid in pids)

    def left() -> list[str]:
        return sorted(name for name in _files() - others if name.startswith(own))

    # Containers that share the folder number their processes alike: what they make goes again.
    _until(lambda: not left())
    yield fact("left behind (files)", left(), [])
