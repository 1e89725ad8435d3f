"""The probe's cost, schedule, checks and limits. Does not import torch."""

from typing import Final

from pydantic import NonNegativeInt

from probes.contract import BITS, MIB, Frozen, ProbeSpec


class Limits(Frozen):
    """What a site may set."""

    #: The size of /dev/shm below which there is a warning. A container gets 64 MiB unless it asks
    #: for more, which torch's own README calls not enough for loaders with workers.
    shared_memory_bytes: NonNegativeInt = 256 * MIB


SPEC: Final = ProbeSpec(
    name="dataloader",
    profile="standard",
    needs="device",
    timeout_s=240,
    typical_s=2.5,
    interval_s=3600,
    memory_bytes=1 * MIB,  # a few pinned batches of some KiB are copied to the device
    # torch before 2.4 imports it, and sympy, in each worker that hands a tensor over.
    preload=(
        "torch.nested._internal.nested_tensor",
        *("multiprocessing.queues", "multiprocessing.popen_fork", "numpy.random"),
    ),
    checks={
        "batches": "batches hold the samples of their indices, the last one too, as collated",
        "order": "batches come in the order of their indices, whichever worker is done first",
        "shuffling": "shuffling visits each sample once, in an order that the seed decides",
        "samplers": "samplers, splits and the ranks' shares draw what they are documented to",
        "iterable": "each worker's share of an iterable dataset arrives, to its end",
        "worker_info": "each worker knows its number, and starts with worker_init_fn on its copy",
        "worker_seeds": "each worker has its own random numbers, which follow from the generator",
        "persistent": "persistent workers serve the next epoch; others start anew",
        "exceptions": "an exception in a worker arrives with its type and text",
        "deaths": "a worker that dies or hangs arrives as an error, and the dead one is named",
        "shared_memory": "shared memory has room for batches, and large ones arrive whole",
        "endings": "workers, descriptors and shared files are gone after a loader's end",
        "pinned": "pinned batches are pinned, and their copies on the device are whole",
        "forked_use": "a device that cannot be used after a fork says so in a loader's worker",
    },
    certain={
        **dict.fromkeys(("batches", "order", "iterable", "pinned"), BITS),
        "shared_memory": BITS,
    },
    limits=Limits,
)
