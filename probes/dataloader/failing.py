"""Workers that raise, die or hang: what arrives in the process that waits for a batch."""

import mmap
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from torch.utils.data import Dataset, IterableDataset

from probes.contract import Comparison
from probes.dataloader.datasets import Calls, Flag, Rows
from probes.dataloader.running import WAIT_S, KilledByOthersError, iterating, loader
from probes.kit.trial import Custom, Trial, fact

_TEXT: Final = "no such sample: 7 of 5"
_SAMPLE: Final = 5
#: A loader's own limit, where its worker hangs.
_HANGS_S: Final = 0.1
_EXIT_CODE: Final = 3


class _SampleError(ValueError):
    """An exception of the user's own."""


def _raise(*_: Any) -> Any:
    raise _SampleError(_TEXT)


def _raise_late(index: int) -> int:
    return index if index < _SAMPLE else int(_raise())


def _look_up(_index: int) -> Any:
    samples: dict[str, Any] = {}
    return samples[_TEXT]


class _Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        yield 0
        _raise()


def exceptions(_device: str) -> Iterator[Trial]:
    """Exceptions in each of the functions that a worker calls."""
    cases: dict[str, tuple[Dataset[Any], dict[str, Any], type[Exception]]] = {
        "in the dataset": (Calls(8, _raise_late), {"batch_size": 2}, _SampleError),
        "of a key": (Calls(1, _look_up), {}, KeyError),
        "in an iterable dataset": (_Stream(), {"batch_size": None}, _SampleError),
        "in collate_fn": (Rows(2), {"collate_fn": _raise}, _SampleError),
        "in worker_init_fn": (Rows(2), {"worker_init_fn": _raise}, _SampleError),
    }
    for name, case in cases.items():
        yield Custom(name, partial(_raised, name, *case))


def _outcome(
    dataset: Dataset[Any], workers: int, own_victim: Callable[[], int] = lambda: 0, **options: Any
) -> tuple[list[Any], str, str]:
    """The batches that came, and the name and the texts of the error that ended them."""
    batches: list[Any] = []
    try:
        with iterating(loader(dataset, workers, **options), own_victim) as found:
            batches.extend(found)
    except KilledByOthersError:
        raise
    except Exception as error:  # noqa: BLE001 - what a worker raised, of any type
        return batches, type(error).__name__, "\n".join(_texts(error))
    return batches, "nothing", ""


def _texts(error: BaseException | None) -> Iterator[str]:
    """The texts that a traceback would show: of the error, and of what led to it."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _raised(
    name: str, dataset: Dataset[Any], options: dict[str, Any], right: type, _device: str
) -> Iterator[Comparison]:
    batches, kind, text = _outcome(dataset, 1, **options)
    yield fact(f"{name} (type)", kind, right.__name__)
    yield fact(f"{name} (text)", _TEXT if _TEXT in text else text[:200], _TEXT)
    if options.get("batch_size") == 2:  # those before the bad sample arrive
        yield fact(f"{name} (before)", [b.tolist() for b in batches], [[0, 1], [2, 3]])


class _Fatal(Dataset[Any]):
    """A sample that ends its process, which first leaves its number in shared memory.

    Samples are numbers, not tensors: to take a tensor the waiting process connects to the worker,
    and where that dies meanwhile torch raises what the socket does.
    """

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def __len__(self) -> int:
        return 2 * _SAMPLE

    def __getitem__(self, index: int) -> int:
        if index == _SAMPLE:
            self._page[:8] = os.getpid().to_bytes(8, "little")
            self._end()
        return index

    def worker(self) -> int:
        """The process that was ended."""
        return int.from_bytes(self._page[:8], "little")


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deaths(_device: str) -> Iterator[Trial]:
    """A worker that is killed, one that leaves, and one that gives nothing."""
    yield Custom("killed", partial(_dead, "killed", _be_killed))
    yield Custom("left", partial(_dead, "left", partial(os._exit, _EXIT_CODE)))
    yield Custom("hangs", _hanging)


def _dead(name: str, end: Callable[[], object], _device: str) -> Iterator[Comparison]:
    dataset = _Fatal(end)
    _, kind, text = _outcome(dataset, 2, dataset.worker, batch_size=None)
    yield fact(f"{name} (type)", kind, "RuntimeError")
    named = str(dataset.worker()) in text
    yield fact(f"{name} (named)", "its process" if named else text[:200], "its process")


def _hanging(_device: str) -> Iterator[Comparison]:
    """The loader's limit ends the wait for a worker that is held until then."""
    release = Flag()
    dataset = Calls(1, lambda _: release.wait(WAIT_S))
    with iterating(loader(dataset, 1, timeout=_HANGS_S), once=True) as batches:
        try:
            next(batches)
            kind = "nothing"
        except RuntimeError as error:
            kind = type(error).__name__
        finally:
            release.set()
    yield fact("hangs (type)", kind, "RuntimeError")
