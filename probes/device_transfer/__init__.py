"""Every bit that is copied to a device, from it, or on it, arrives.

Why: a bad cable, slot, IOMMU setting or driver loses or reorders bytes while every call reports
     success: copies that gave zeros, stale or truncated data are on record. So each side makes the
     same integers for itself, and each direction is judged where its copies arrive.
Fix: run the probe again and on another GPU. One direction of one GPU: reseat it, check its PCIe
     link and `dmesg`, drain the node. All GPUs: IOMMU or ACS settings, then the driver. On the CPU:
     the build of torch in this image.
Ref: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html
     https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
     https://github.com/pytorch/pytorch/issues/87363
     https://github.com/pytorch/pytorch/issues/127612
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import torch
from pydantic import Field

from probes.catalog import DEVICE_TRANSFER
from probes.contract import Comparison, Finding, Measurement, Observation, agree, skipped
from probes.device_transfer import advice, copies, dtypes, layouts, pinned, semantics
from probes.device_transfer.pattern import made_by_numpy, made_by_torch
from probes.device_transfer.places import (
    Place,
    digest_by_numpy,
    held,
    summed,
)
from probes.references import attempted

#: The pattern's size in bytes: the largest copy of the quick profile, and on a host just enough.
_DEVICE_BYTES: Final = 64 * copies.MIB
_HOST_BYTES: Final = -(-copies.LEAST_BYTES // 4096) * 4096

_ONE_MEMORY: Final = "the CPU is the host: there is no way between them; device_to_device is judged"

#: Checks that do not need the device's own pattern; without it nothing else can be told.
_WITHOUT_PATTERN: Final = {"scalars", "device_pattern"}
_BLIND: Final = "its own integers are wrong (device_pattern): copies cannot be judged"


class Seen(Observation):
    """Copies held against their reference, by check; why a check has none; rates by direction."""

    device: str
    comparisons: dict[str, tuple[Comparison, ...]]
    skips: dict[str, str] = Field(default_factory=dict)
    bytes_per_second: dict[str, float] = Field(default_factory=dict)


def observe(device: str) -> Seen:
    """Copy in each direction that exists, the first copies of the process first."""
    asked = torch.device(device)
    apart = asked.type != "cpu"
    words = (_DEVICE_BYTES if apart else _HOST_BYTES) // 4
    array = made_by_numpy(words)
    host = Place(torch.device("cpu"), torch.from_numpy(array.copy()), array)
    first = host.words[:4096].to(asked, copy=True)  # before anything else runs there
    made = made_by_torch(words, device)
    place = Place(made.device, made, made if apart else array)  # its device with its index
    seen = {
        "first_copy": _first(host, place, first),
        "scalars": semantics.scalars(place),
        "device_pattern": semantics.reference(host, place),
    }
    ways = {"device_to_device": (place, place)}
    if apart:
        ways |= {"host_to_device": (host, place), "device_to_host": (place, host)}
    for way, (source, target) in ways.items():
        seen[f"{way}_sizes"] = copies.sizes(source, target)
        seen[f"{way}_dtypes"] = dtypes.dtypes(source, target)
        seen[f"{way}_layouts"] = layouts.layouts(source, target)
        seen[f"{way}_converts"] = dtypes.converts(source, target)
    seen["same_device"] = semantics.to_same_device(place)
    why, rates = _ONE_MEMORY, dict[str, float]()
    if apart:
        seen["to_device_moves"] = semantics.to_moves(host, place)
        seen["to_host_copies"] = semantics.host_copies(host, place)
        why = pinned.unavailable()
    if apart and not why:
        whole, rates = pinned.fast(host, place)
        seen["pinned_shares"] = pinned.shares(host, place)
        seen["host_to_device_pinned"] = [
            *pinned.to_device(host, place),
            whole["host_to_device"],
        ]
        seen["device_to_host_pinned"] = [*pinned.to_host(host, place), whole["device_to_host"]]
        seen["both_at_once"] = pinned.both_at_once(host, place)
    seen["integrity_sum"] = _sums(host, place)
    return Seen(
        device=device,
        comparisons={name: tuple(listed) for name, listed in seen.items()},
        skips={name: why for name in DEVICE_TRANSFER.checks if name not in seen},
        bytes_per_second=rates,
    )


def _first(host: Place, place: Place, sent: torch.Tensor) -> list[Comparison]:
    """The copy that came before all others, and the first one out of the device."""
    back = copies.move(place.words[:4096], host.device)
    return [
        attempted("into the device", lambda: held("in", sent, place.reference[:4096])),
        attempted("out of the device", lambda: held("out", back, host.reference[:4096])),
    ]


def _sums(host: Place, place: Place) -> list[Comparison]:
    """Whole buffers by their sums, taken on the side where they arrived, and the sources after."""
    right = digest_by_numpy(host.reference)

    def one(operation: str, make: Callable[[], torch.Tensor]) -> Comparison:
        return summed(operation, make(), host.reference, right)

    cases: dict[str, Callable[[], torch.Tensor]] = {
        "device to device": place.words.clone,
        "device's source afterwards": lambda: place.words,
        "host's source afterwards": lambda: host.words,
    }
    if place.device != host.device:
        cases |= {
            "host to device": lambda: host.words.to(place.device),
            "device to host": place.words.cpu,
        }
    return [attempted(name, partial(one, name, make)) for name, make in cases.items()]


def judge(seen: Seen) -> Iterator[Finding]:
    """Each family of copies: all bits, or the first that is wrong, and the direction by name."""
    pattern = seen.comparisons["device_pattern"]
    blind = seen.device != "cpu" and not all(each.holds for each in pattern)
    for name in DEVICE_TRANSFER.checks:
        check = f"device_transfer.{name}"
        if name in seen.skips:
            yield skipped(check, seen.skips[name])
            continue
        if blind and name not in _WITHOUT_PATTERN:
            yield skipped(check, _BLIND)
            continue
        comparisons = seen.comparisons.get(name, ())
        if seen.device == "cpu":
            yield agree(check, comparisons, hint=advice.ON_CPU, action="fix_image")
        else:
            yield agree(check, comparisons, hint=advice.hint(name), action="drain")


def measure(seen: Seen) -> Iterator[Measurement]:
    """How fast pinned memory is copied in each direction; nothing on the CPU."""
    for way, value in seen.bytes_per_second.items():
        yield Measurement(name=f"{way}_bytes_per_second", value=value, unit="bytes_per_second")
