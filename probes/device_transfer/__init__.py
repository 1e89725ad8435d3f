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

from collections.abc import Iterator
from typing import Final

import torch

from probes.catalog import DEVICE_TRANSFER
from probes.contract import Comparison, Finding, Measurement, Observation, agree, skipped
from probes.device_transfer import copies, pinned, semantics
from probes.device_transfer.places import Place, made_by_numpy, made_by_torch, summed
from probes.references import attempted

#: The pattern's size in bytes: the largest copy of the quick profile, and on a host just enough.
_DEVICE_BYTES: Final = 64 * copies.MIB
_HOST_BYTES: Final = -(-copies.LEAST_BYTES // 4096) * 4096

_ONE_MEMORY: Final = "the CPU is the host: there is no way between them; device_to_device is judged"

_HINTS: Final = {
    "host_to_device": "copies into the device arrive wrong: repeat on another GPU; check the PCIe "
    "link (`lspci -vv`, `dmesg | grep -iE 'aer|xid'`), the IOMMU setting, then reseat the GPU",
    "device_to_host": "copies out of the device arrive wrong: repeat on another GPU; check the PCIe "
    "link (`lspci -vv`, `dmesg | grep -iE 'aer|xid'`), the IOMMU setting, then reseat the GPU",
    "device_to_device": "copies within the memory are wrong: on a GPU, read its ECC counters "
    "(`nvidia-smi -q -d ECC`) and repeat; on the CPU, replace this build of torch",
}


class Seen(Observation):
    """Copies held against their reference, by check; why a check has none; rates by direction."""

    device: str
    comparisons: dict[str, tuple[Comparison, ...]]
    skips: dict[str, str] = {}
    bytes_per_second: dict[str, float] = {}


def observe(device: str) -> Seen:
    """Copy in each direction that exists, the first copies of the process first."""
    there = torch.device(device)
    apart = there.type != "cpu"
    words = (_DEVICE_BYTES if apart else _HOST_BYTES) // 4
    array = made_by_numpy(words)
    host = Place(torch.device("cpu"), torch.from_numpy(array.copy()), array)
    sent = host.words[:4096].to(there, copy=True)  # the first copy, before anything else runs there
    made = made_by_torch(words, device)
    there = made.device  # with its index, as arriving tensors have it
    place = Place(there, made, made if apart else array)
    seen: dict[str, list[Comparison]] = {"first_copy": _first(host, place, sent)}
    seen["scalars"] = semantics.scalars(place)
    seen["device_pattern"] = semantics.reference(host, place)
    ways = {"device_to_device": (place, place)}
    if apart:
        ways = {"host_to_device": (host, place), "device_to_host": (place, host)} | ways
    for way, (source, target) in ways.items():
        seen[f"{way}_sizes"] = copies.sizes(source, target)
        seen[f"{way}_dtypes"] = copies.dtypes(source, target)
        seen[f"{way}_layouts"] = copies.layouts(source, target)
        seen[f"{way}_converts"] = copies.converts(source, target)
    seen["same_device"] = semantics.to_same_device(place)
    skips, rates = {}, {}
    if apart:
        seen["to_device_moves"] = semantics.to_moves(host, place)
        seen["to_host_copies"] = semantics.host_copies(host, place)
        if why := pinned.unavailable():
            skips = dict.fromkeys(_PINNED, why)
        else:
            seen["pinned_shares"] = pinned.shares(host, place)
            seen["host_to_device_pinned"] = pinned.to_device(host, place)
            seen["device_to_host_pinned"] = pinned.to_host(host, place)
            seen["both_at_once"] = pinned.both_at_once(host, place)
            rates = pinned.bytes_per_second(host, place)
    else:
        skips = {name: _ONE_MEMORY for name in DEVICE_TRANSFER.checks if name not in seen}
        skips.pop("integrity_sum")
    seen["integrity_sum"] = _sums(host, place)
    return Seen(
        device=device,
        comparisons={name: tuple(listed) for name, listed in seen.items()},
        skips=skips,
        bytes_per_second=rates,
    )


_PINNED: Final = (
    *("pinned_shares", "host_to_device_pinned", "device_to_host_pinned", "both_at_once"),
)


def _first(host: Place, place: Place, sent: torch.Tensor) -> list[Comparison]:
    """The copy that came before all others, and the first one back or on the spot."""
    back = copies.move(place.words[:4096], host.device)
    ways = f"{host.device.type} to {place.device.type}", f"{place.device.type} to host"
    return [
        attempted(ways[0], lambda: copies.held(ways[0], sent, place.reference[:4096])),
        attempted(ways[1], lambda: copies.held(ways[1], back, host.reference[:4096])),
    ]


def _sums(host: Place, place: Place) -> list[Comparison]:
    """Whole buffers by their sums, taken on the side where they arrived, and the sources after."""
    expected = host.reference
    there, back = host.words.to(place.device, copy=True), place.words.to("cpu", copy=True)
    cases = {
        "host to device": there,
        "device to device": place.words.clone(),
        "device to host": back,
        "device's source afterwards": place.words,
        "host's source afterwards": host.words,
    }
    return [
        attempted(name, lambda name=name, x=x: summed(name, x, expected))  # type: ignore[misc]
        for name, x in cases.items()
    ]


def judge(seen: Seen) -> Iterator[Finding]:
    """Each family of copies: all bits, or the first that is wrong, and the direction by name."""
    for name in DEVICE_TRANSFER.checks:
        check = f"device_transfer.{name}"
        if name in seen.skips:
            yield skipped(check, seen.skips[name])
            continue
        way = next((way for way in _HINTS if name.startswith(way)), "device_to_device")
        action = "fix_image" if seen.device == "cpu" else "drain"
        yield agree(check, seen.comparisons.get(name, ()), hint=_HINTS[way], action=action)


def measure(seen: Seen) -> Iterator[Measurement]:
    """How fast pinned memory is copied in each direction; nothing on the CPU."""
    for way, value in seen.bytes_per_second.items():
        yield Measurement(name=f"{way}_bytes_per_second", value=value, unit="bytes_per_second")
