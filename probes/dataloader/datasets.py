"""Datasets whose samples tell which they are, and where they were made."""

import mmap
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from probes.kit.operands import integers

Table = npt.NDArray[np.float32]

WIDTH: Final = 7
#: Numbers of each kind that a sample draws.
DRAWS: Final = 4

_POLL_S: Final = 0.002


def table(rows: int) -> Table:
    """Integers of float32, (rows, WIDTH), each row another."""
    return integers((rows, WIDTH), -1000, 1000, salt=31)


class Flag:
    """Something that processes tell each other in shared memory, without a lock.

    A lock would stay shut where a worker is killed that holds it.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set(self) -> None:
        """Tell it."""
        self._page[0] = 1

    def wait(self, seconds: float) -> None:
        """Wait until it was told, or until it was looked for during so many seconds."""
        for _ in range(int(seconds / _POLL_S)):
            if self._page[0]:
                return
            time.sleep(_POLL_S)


class Rows(Dataset[Any]):
    """Sample i is row i of a table, and i."""

    def __init__(self, rows: int) -> None:
        self.table = table(rows)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.table[index].copy()), index


class Calls(Dataset[Any]):
    """Sample i is what a function makes of i, in the process that is asked for it."""

    def __init__(self, samples: int, call: Callable[[int], Any]) -> None:
        self._samples = samples
        self._call = call

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> Any:
        return self._call(index)


class Places(Dataset[Any]):
    """Sample i is i, `shift`, the process that made it, and how many it has made until then."""

    def __init__(self, samples: int) -> None:
        self.shift = 0
        self._samples = samples
        self._made = 0

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> tuple[int, int, int, int]:
        self._made += 1
        return index, self.shift, os.getpid(), self._made


class Shares(IterableDataset[Any]):
    """The numbers of this worker's share: `shares[number of the worker]`, or all of them."""

    def __init__(self, *shares: range, split: bool = True) -> None:
        self._shares = shares
        self._split = split

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        mine = self._shares if info is None or not self._split else (self._shares[info.id],)
        for share in mine:
            yield from share


def drawn(_index: int) -> dict[str, Any]:
    """The worker, its seed, and what torch, NumPy and Python draw in it."""
    info = get_worker_info()
    return {
        "worker": -1 if info is None else info.id,
        "seed": -1 if info is None else info.seed,
        "initial_seed": torch.initial_seed(),
        "torch": torch.randint(2**31, (DRAWS,)).tolist(),
        # The old generator: it is what datasets use, and what torch seeds.
        "numpy": np.random.randint(2**31 - 1, size=DRAWS).tolist(),  # noqa: NPY002
        "python": [random.getrandbits(31) for _ in range(DRAWS)],
    }
