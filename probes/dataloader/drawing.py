"""Which samples are drawn, in which order: shuffling, samplers, splits, and the ranks' shares."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)

from probes.contract import Comparison
from probes.dataloader.datasets import Rows
from probes.dataloader.running import gathered
from probes.kit.trial import Custom, Trial, fact

_ROWS: Final = 64
_MANY: Final = 4096
_DRAWS: Final = 8000
#: Standard deviations, beyond which a count is not random: once in 10^9 for a given seed.
_SIGMAS: Final = 6.0
#: Most elements that a random permutation leaves in place: their number is Poisson's with mean 1.
_IN_PLACE: Final = 12
_WEIGHTS: Final = (0.0, 1.0, 3.0, 0.0, 4.0)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _all(parts: Iterable[list[int]]) -> list[int]:
    """The numbers of all parts, in order of their size."""
    return sorted(chain(*parts))


def shuffling(_device: str) -> Iterator[Trial]:
    """Orders by seed, by epoch and by worker, and whether they look random."""
    yield Custom("shuffle", _shuffle)
    yield Custom("shuffle in workers", _shuffle_in_workers)
    yield Custom("random order", _random_order)


def _order(seed: int, workers: int = 0, epochs: int = 1) -> list[list[int]]:
    """The order of the samples in each epoch of a loader."""
    options: dict[str, Any] = {"batch_size": 16, "shuffle": True, "generator": _seeded(seed)}
    dataset = Rows(_ROWS)
    runs = (gathered(dataset, workers, **options) for _ in range(epochs))
    return [[index for _, indices in run for index in indices.tolist()] for run in runs]


def _shuffle(_device: str) -> Iterator[Comparison]:
    first, second = _order(5, epochs=2)
    yield fact("shuffle (each once)", sorted(first), list(range(_ROWS)))
    yield fact("shuffle (each once, next epoch)", sorted(second), list(range(_ROWS)))
    yield fact("shuffle (same seed)", _order(5, epochs=2), [first, second])
    yield fact("shuffle (next epoch is another)", first != second, True)
    yield fact("shuffle (other seed is another)", _order(6)[0] != first, True)
    yield fact("shuffle (is another)", first != sorted(first), True)


def _shuffle_in_workers(_device: str) -> Iterator[Comparison]:
    (found,) = _order(5, workers=2)
    yield fact("shuffle in workers (each once)", sorted(found), list(range(_ROWS)))
    yield fact("shuffle in workers (same seed)", _order(5, workers=2), [found])


def _random_order(_device: str) -> Iterator[Comparison]:
    """Statistics of a long permutation, within six standard deviations of their expectation."""
    found = np.array(list(RandomSampler(range(_MANY), generator=_seeded(7))))
    yield fact("random order (each once)", sorted(found.tolist()), list(range(_MANY)))
    place = np.arange(_MANY)
    spread = _SIGMAS / math.sqrt(_MANY - 1)  # of a correlation
    rises = int((np.diff(found) > 0).sum()) - (_MANY - 1) / 2
    yield fact("random order (in place)", int((found == place).sum()) <= _IN_PLACE, True)
    yield fact("random order (rises)", abs(rises) < _SIGMAS * math.sqrt((_MANY + 1) / 12), True)
    for name, pair in (("place", (found, place)), ("next", (found[1:], found[:-1]))):
        correlation = float(np.corrcoef(*pair)[0, 1])
        yield fact(f"random order ({name})", abs(correlation) < spread, True)


def samplers(_device: str) -> Iterator[Trial]:
    """The samplers of torch.utils.data, its split, and the shares of ranks."""
    yield Custom("plain samplers", _plain)
    yield Custom("with replacement", _replacing)
    yield Custom("weighted", _weighted)
    yield Custom("random_split", _split)
    yield Custom("ranks", _ranks)


def _plain(_device: str) -> Iterator[Comparison]:
    yield fact("plain samplers (in order)", list(SequentialSampler(range(5))), [0, 1, 2, 3, 4])
    subset = SubsetRandomSampler([9, 2, 5], generator=_seeded(1))
    yield fact("plain samplers (subset)", sorted(subset), [2, 5, 9])
    for drop, right in ((False, [[0, 1, 2], [3, 4]]), (True, [[0, 1, 2]])):
        sampler = BatchSampler(SequentialSampler(range(5)), 3, drop)
        yield fact("plain samplers (batches)", list(sampler), right)
        yield fact("plain samplers (their number)", len(sampler), len(right))


def _counts(sampler: Any, kinds: int) -> list[int]:
    return np.bincount(np.array(list(sampler)), minlength=kinds).tolist()  # type: ignore[no-any-return]


def _far(counts: list[int], shares: list[float]) -> list[int]:
    """The kinds that were drawn too often or too seldom."""
    total = sum(counts)
    spreads = [_SIGMAS * math.sqrt(total * share * (1 - share)) for share in shares]
    rows = zip(counts, shares, spreads, strict=True)
    return [kind for kind, (n, p, s) in enumerate(rows) if abs(n - total * p) > s]


def _replacing(_device: str) -> Iterator[Comparison]:
    sampler = RandomSampler(range(8), True, _DRAWS, generator=_seeded(2))
    counts = _counts(sampler, 8)
    yield fact("with replacement (draws)", [sum(counts), len(counts)], [_DRAWS, 8])
    yield fact("with replacement (too often or seldom)", _far(counts, [1 / 8] * 8), [])


def _weighted(_device: str) -> Iterator[Comparison]:
    sampler = WeightedRandomSampler(_WEIGHTS, _DRAWS, generator=_seeded(3))
    counts = _counts(sampler, len(_WEIGHTS))
    shares = [weight / sum(_WEIGHTS) for weight in _WEIGHTS]
    yield fact("weighted (draws)", [sum(counts), len(counts)], [_DRAWS, len(_WEIGHTS)])
    yield fact("weighted (too often or seldom)", _far(counts, shares), [])
    once = WeightedRandomSampler(_WEIGHTS, 3, replacement=False, generator=_seeded(4))
    yield fact("weighted (each once)", sorted(once), [1, 2, 4])


def _split(_device: str) -> Iterator[Comparison]:
    parts: Any = random_split(range(10), [3, 7], generator=_seeded(5))  # type: ignore[arg-type]
    again: Any = random_split(range(10), [3, 7], generator=_seeded(5))  # type: ignore[arg-type]
    listed = [list(part) for part in parts]
    yield fact("random_split (sizes)", [len(part) for part in listed], [3, 7])
    yield fact("random_split (each once)", _all(listed), list(range(10)))
    yield fact("random_split (same seed)", [list(part) for part in again], listed)


def _share(rank: int, epoch: int = 0, **options: Any) -> list[int]:
    samples: Any = range(11)
    sampler: Any = DistributedSampler(samples, num_replicas=3, rank=rank, seed=6, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def _ranks(_device: str) -> Iterator[Comparison]:
    """Three ranks share 11 samples: each gets four, or three without the tail."""
    for shuffle in (False, True):
        shares = [_share(rank, shuffle=shuffle) for rank in range(3)]
        name = "shuffled" if shuffle else "in order"
        yield fact(f"ranks ({name}, sizes)", [len(share) for share in shares], [4, 4, 4])
        yield fact(f"ranks ({name}, all)", sorted({*_all(shares)}), list(range(11)))
        dropped = [_share(rank, shuffle=shuffle, drop_last=True) for rank in range(3)]
        yield fact(f"ranks ({name}, without the tail)", len(set(_all(dropped))), 9)
    yield fact("ranks (same epoch)", _share(1, 4), _share(1, 4))
    yield fact("ranks (next epoch is another)", _share(1, 4) != _share(1, 5), True)
