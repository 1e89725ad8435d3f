"""What workers know, what they draw, and how long they live."""

import os
import random
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import get_worker_info

from probes.contract import Comparison
from probes.dataloader.datasets import DRAWS, Calls, Places, Shares, drawn
from probes.dataloader.running import gathered, iterating, loader
from probes.kit.trial import Custom, Trial, fact

_SHIFT: Final = 100
_WORKERS: Final = 2


def iterable(_device: str) -> Iterator[Trial]:
    """Shares of different lengths, and a dataset that does not share."""
    yield Custom("no worker, iterable", _iterable_alone)
    yield Custom("shares", _shares)
    yield Custom("not shared", _not_shared)


def _numbers(batches: list[Any]) -> list[int]:
    return [number for batch in batches for number in batch.tolist()]


def _iterable_alone(_device: str) -> Iterator[Comparison]:
    found = gathered(Shares(range(4), range(10, 13)), 0, batch_size=3)
    right = [[0, 1, 2], [3, 10, 11], [12]]
    yield fact("no worker, iterable", [batch.tolist() for batch in found], right)


def _shares(_device: str) -> Iterator[Comparison]:
    """Each worker's batches are its own, in its order; the shorter share ends first."""
    shares = range(8), range(10, 13)
    found = gathered(Shares(*shares), _WORKERS, batch_size=3)
    yield fact("shares (each once)", sorted(_numbers(found)), [*shares[0], *shares[1]])
    for number, share in enumerate(shares):
        mine = [batch.tolist() for batch in found if batch[0] in share]
        right = [list(share[first : first + 3]) for first in range(0, len(share), 3)]
        yield fact(f"shares (worker {number})", mine, right)


def _not_shared(_device: str) -> Iterator[Comparison]:
    """Each worker has the whole of a dataset that does not ask which worker it is in."""
    found = gathered(Shares(range(5), split=False), _WORKERS, batch_size=2)
    yield fact("not shared", sorted(_numbers(found)), sorted([*range(5)] * _WORKERS))


def worker_info(_device: str) -> Iterator[Trial]:
    """worker_init_fn changes the worker's own copy of the dataset."""
    yield Custom("worker_init_fn", _started)


def _shift_own_copy(number: int) -> None:
    info: Any = get_worker_info()
    info.dataset.shift = _SHIFT * (number + 1) + 10 * info.num_workers + info.id


def _started(_device: str) -> Iterator[Comparison]:
    dataset = Places(6)
    found = gathered(dataset, _WORKERS, batch_size=None, worker_init_fn=_shift_own_copy)
    right = {_SHIFT * (number + 1) + 10 * _WORKERS + number for number in range(_WORKERS)}
    yield fact("worker_init_fn (indices)", [index for index, *_ in found], list(range(6)))
    yield fact("worker_init_fn (its copies)", {shift for _, shift, *_ in found}, right)
    places = {(shift, pid) for _, shift, pid, _ in found}
    yield fact("worker_init_fn (processes)", len({pid for _, pid in places}), _WORKERS)
    yield fact("worker_init_fn (once in each)", len(places), _WORKERS)
    yield fact("worker_init_fn (here)", os.getpid() in {pid for _, pid in places}, False)
    yield fact("worker_init_fn (own dataset)", dataset.shift, 0)
    yield fact("worker_init_fn (get_worker_info here)", get_worker_info(), None)


def worker_seeds(_device: str) -> Iterator[Trial]:
    """Numbers of two loaders by the same seed, of one by another, and by torch's recipe."""
    yield Custom("seeds", _seeds)


def _draws(seed: int, **options: Any) -> list[dict[str, Any]]:
    """What the first sample of each worker draws."""
    generator = torch.Generator().manual_seed(seed)
    dataset = Calls(_WORKERS, drawn)
    return gathered(dataset, _WORKERS, batch_size=None, generator=generator, **options)


def _seed_as_documented(_worker: int) -> None:
    """What torch's notes on reproducibility say of other libraries."""
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def _seeds(_device: str) -> Iterator[Comparison]:
    found, again, other = _draws(11), _draws(11), _draws(12)
    base = found[0]["seed"]
    yield fact("seeds (workers)", [each["worker"] for each in found], [0, 1])
    yield fact("seeds (base + number)", [each["seed"] for each in found], [base, base + 1])
    for each in found:
        yield fact("seeds (of torch)", each["initial_seed"], each["seed"])
        generator = torch.Generator().manual_seed(each["seed"])
        right = torch.randint(2**31, (DRAWS,), generator=generator).tolist()
        yield fact("seeds (torch's numbers)", each["torch"], right)
    yield fact("seeds (other generator, other seed)", other[0]["seed"] != base, True)
    for kind in ("torch", "numpy", "python"):
        left, right = (each[kind] for each in found)
        yield fact(f"seeds ({kind}, workers apart)", left != right, True)
        yield fact(f"seeds ({kind}, same generator)", [e[kind] for e in again], [left, right])
        yield fact(f"seeds ({kind}, other generator)", other[0][kind] != left, True)
    for each in _draws(11, worker_init_fn=_seed_as_documented):
        seed = each["seed"] % 2**32
        numbers = np.random.RandomState(seed).randint(2**31 - 1, size=DRAWS)
        yield fact("seeds (numpy, as documented)", each["numpy"], numbers.tolist())
        own = random.Random(seed)  # noqa: S311
        right = [own.getrandbits(31) for _ in range(DRAWS)]
        yield fact("seeds (python, as documented)", each["python"], right)


def persistent(_device: str) -> Iterator[Trial]:
    """Two epochs of the same workers, and of new ones."""
    yield Custom("persistent_workers", _persistent)


def _epochs(*, persistent: bool) -> list[list[tuple[int, int, int, int]]]:
    chosen = loader(Places(4), _WORKERS, batch_size=None, persistent_workers=persistent)
    with iterating(chosen) as first:
        epochs = [list(first)]
        with iterating(chosen) as second:
            epochs.append(list(second))
    return epochs


def _persistent(_device: str) -> Iterator[Comparison]:
    label = "persistent_workers"
    for kept in (True, False):
        first, second = _epochs(persistent=kept)
        for epoch in (first, second):
            yield fact(f"{label} (indices)", [index for index, *_ in epoch], list(range(4)))
        same = {pid for *_, pid, _ in first} == {pid for *_, pid, _ in second}
        yield fact(f"{label} (same processes)", same, kept)
        made = sorted(made for *_, made in second)
        right = [3, 3, 4, 4] if kept else [1, 1, 2, 2]
        yield fact(f"{label} (the dataset goes on)", made, right)
