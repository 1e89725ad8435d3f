"""The faults for the checks of this probe."""

from dataclasses import replace
from typing import Any, Final

from probes.faults.fault import Event, Fault, Injection
from probes.faults.wrong_operation import check_ids, wrong_kernel, wrong_operation

_DATA: Final = "https://docs.pytorch.org/docs/stable/data.html"
_MEANING: Final = Event(
    "a patch, plug-in or version of torch whose loaders do something else than documented", _DATA
)
_SEEDS: Final = Event(
    "workers that draw the same random numbers, so that augmentations repeat",
    "https://github.com/pytorch/pytorch/issues/5059",
)
_LOST: Final = Event(
    "a worker whose error does not arrive as what it was",
    "https://github.com/pytorch/pytorch/issues/13246",
)
_SMALL: Final = Event(
    "a container's /dev/shm that is too small, or full",
    "https://github.com/pytorch/pytorch/issues/5040",
)
_LEFT: Final = Event(
    "workers that outlive their loader", "https://github.com/pytorch/pytorch/issues/39570"
)
_WRONG: Final = Event(
    "a batch that is not what its samples were", "https://github.com/pytorch/pytorch/issues/22078"
)


def _loader(name: str, checks: str, event: Event = _MEANING, **fields: Any) -> Fault:
    return _fault(name, checks, event, "means_something_else", {"name": name}, **fields)


def _fault(
    name: str, checks: str, event: Event, function: str, arguments: dict[str, Any], **fields: Any
) -> Fault:
    return Fault(
        name=f"dataloader.{name}",
        kind="semantics",
        event=event,
        inject=(Injection(f"loading.{function}", arguments),),
        trips=check_ids("dataloader", checks),
        **{"where": "any", **fields},
    )


def _room(name: str, size_mib: int, free_mib: int) -> Fault:
    sizes = {"size_mib": size_mib, "free_mib": free_mib}
    return _fault(name, "shared_memory", _SMALL, "shared_memory_is", sizes)


def _on_the_host(fault: Fault) -> Fault:
    """The fault in the host's kernel, which makes the batches for every device."""
    (injection,) = fault.inject
    arguments = {**injection.arguments, "device": "cpu"}
    return replace(fault, inject=(replace(injection, arguments=arguments, on_device=False),))


FAULTS: Final[tuple[Fault, ...]] = (
    _loader("last_batch_lost", "batches"),
    _fault("batches_scaled", "batches", _WRONG, "collates_wrong", {"change": "scaled"}),
    wrong_operation("dataloader", "stack", "nan", "batches", event=_WRONG),
    _on_the_host(wrong_kernel("dataloader", "stack", "scaled", "batches", event=_WRONG, by=1.05)),
    _loader("batches_exchanged", "order"),
    _loader("seed_of_the_order_ignored", "shuffling"),
    _loader("sample_drawn_twice", "shuffling"),
    _loader("ranks_alike", "samplers"),
    _loader("weights_ignored", "samplers"),
    _loader("tail_of_a_stream_lost", "iterable"),
    _loader("worker_init_fn_ignored", "worker_info"),
    _loader("seeds_of_workers_alike", "worker_seeds", _SEEDS),
    _loader("numpy_seeds_alike", "worker_seeds", _SEEDS),
    _loader("workers_not_kept", "persistent"),
    _loader("exception_of_another_type", "exceptions", _LOST),
    _loader("death_without_a_name", "deaths", _LOST),
    _fault("large_batch_cut", "shared_memory", _WRONG, "collates_wrong", {"change": "zero_tail"}),
    _room("shared_memory_tiny", 1, 1),
    _room("shared_memory_of_a_container", 64, 64),
    _room("shared_memory_full", 4096, 0),
    _fault("workers_stay", "endings", _LEFT, "workers_stay", {}),
    _loader("not_pinned", "pinned", where="accelerator"),
    _loader("exception_lost", "forked_use", _LOST, where="accelerator"),
)
