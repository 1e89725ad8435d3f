"""Replaces parts of torch.utils.data with wrong ones, here and in the workers that are forked."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch._utils import ExceptionWrapper
from torch.utils import data
from torch.utils.data import _utils, dataloader

from probes.dataloader import ending, memory
from probes.faults.inject.replaced import raising, replace

_LARGE: Final = 2**20  # elements: more than a small batch has
_MIB: Final = 1024 * 1024

_worker: Any = _utils.worker
_collate: Any = _utils.collate
_loading: Any = dataloader._MultiProcessingDataLoaderIter

#: The places of `_worker_loop`'s arguments.
_BASE_SEED, _INIT_FN, _NUMBER = 8, 9, 10


def _with_options(**changed: Any) -> Callable[[Any], Any]:
    """A constructor with some of its options replaced, where it was given them."""

    def make(original: Any) -> Any:
        def construct(self: Any, *given: Any, **options: Any) -> None:
            original(self, *given, **{**options, **changed})

        return construct

    return make


def _without_the_last(original: Any) -> Any:
    """A loader that drops its last batch if it is short."""

    def construct(self: Any, dataset: Any, batch_size: Any = 1, **options: Any) -> None:
        if batch_size is not None and batch_size > 1:
            options["drop_last"] = True
        original(self, dataset, batch_size, **options)

    return construct


def _exchanged(original: Any) -> Any:
    """The first two batches are taken for each other."""

    def get(self: Any) -> Any:
        index, batch = original(self)
        return (1 - index if index in {0, 1} else index), batch

    return get


def _first_again(original: Any) -> Any:
    """The first sample takes the place of the last."""

    def draw(self: Any) -> Any:
        drawn = list(original(self))
        return iter([*drawn[:-1], drawn[0]])

    return draw


def _weights_ignored(original: Any) -> Any:
    """Each sample is drawn as often as any other."""

    def construct(self: Any, weights: Any, *given: Any, **options: Any) -> None:
        original(self, [1.0] * len(weights), *given, **options)

    return construct


def _with_argument(place: int, change: Callable[[tuple[Any, ...]], Any]) -> Callable[[Any], Any]:
    """The worker's loop with one argument replaced."""

    def make(original: Any) -> Any:
        def loop(*given: Any) -> None:
            original(*given[:place], change(given), *given[place + 1 :])

        return loop

    return make


def _nameless(original: Any) -> Any:
    """An error without the process that died."""

    def get(self: Any, *given: Any) -> Any:
        try:
            return original(self, *given)
        except RuntimeError:
            raise RuntimeError("a worker is gone") from None

    return get


def _nothing(_: Any) -> Any:
    return lambda *_given, **_named: None


#: Name -> (owner, function, factory of its replacement).
LOADERS: Final[dict[str, tuple[Any, str, Callable[[Any], Any]]]] = {
    "last_batch_lost": (data.DataLoader, "__init__", _without_the_last),
    "batches_exchanged": (_loading, "_get_data", _exchanged),
    "seed_of_the_order_ignored": (data.RandomSampler, "__init__", _with_options(generator=None)),
    "sample_drawn_twice": (data.RandomSampler, "__iter__", _first_again),
    "weights_ignored": (data.WeightedRandomSampler, "__init__", _weights_ignored),
    "ranks_alike": (data.DistributedSampler, "__init__", _with_options(rank=0)),
    "tail_of_a_stream_lost": (
        _utils.fetch._IterableDatasetFetcher,
        "__init__",
        lambda original: lambda self, *given: original(self, *given[:3], True),
    ),
    "worker_init_fn_ignored": (_worker, "_worker_loop", _with_argument(_INIT_FN, lambda _: None)),
    "seeds_of_workers_alike": (
        _worker,
        "_worker_loop",
        _with_argument(_BASE_SEED, lambda given: given[_BASE_SEED] - given[_NUMBER]),
    ),
    "numpy_seeds_alike": (_worker, "_generate_state", lambda _: lambda *_given: [1, 2, 3, 4]),
    "workers_not_kept": (data.DataLoader, "__init__", _with_options(persistent_workers=False)),
    "exception_of_another_type": (
        ExceptionWrapper,
        "reraise",
        lambda _: raising("a worker failed"),
    ),
    "exception_lost": (ExceptionWrapper, "reraise", _nothing),
    "death_without_a_name": (_loading, "_try_get_data", _nameless),
    "not_pinned": (_utils.pin_memory, "pin_memory", lambda _: lambda batch, *_given: batch),
}


def means_something_else(name: str) -> None:
    """Replace the function that `LOADERS` has under that name."""
    owner, function, make = LOADERS[name]
    replace(owner, function, make)


def _scaled(batch: torch.Tensor) -> None:
    if batch.is_floating_point():
        batch.mul_(1.05)


def _zero_tail(batch: torch.Tensor) -> None:
    if batch.numel() > _LARGE:
        batch.view(-1)[-1024:] = 0  # the last page


#: Changes a collated batch in place.
COLLATED: Final[dict[str, Callable[[torch.Tensor], None]]] = {
    "scaled": _scaled,
    "zero_tail": _zero_tail,
}


def collates_wrong(change: str) -> None:
    """Change the tensors that batches are made into."""
    table = _collate.default_collate_fn_map
    original = table[torch.Tensor]

    def collate(batch: Any, **options: Any) -> Any:
        made = original(batch, **options)
        COLLATED[change](made)
        return made

    table[torch.Tensor] = collate


def shared_memory_is(size_mib: int, free_mib: int) -> None:
    """Report another size of /dev/shm, in MiB."""
    seen = {"f_flag": 0, "f_frsize": _MIB, "f_blocks": size_mib, "f_bavail": free_mib}
    system = SimpleNamespace(**{**vars(os), "statvfs": lambda _folder: SimpleNamespace(**seen)})
    replace(memory, "os", lambda _: system)


def workers_stay() -> None:
    """Leave workers alone at the end of a loader; the check waits less for them."""
    for name in ("_shutdown_workers", "__del__"):
        replace(_loading, name, _nothing)
    ending.ENDS_S = 0.2
