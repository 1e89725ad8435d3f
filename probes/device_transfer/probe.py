"""The observation of a device, and the findings about it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.contract import Comparison, Finding, Measurement, agree, skipped
from probes.device_transfer import advice, copies, dtypes, layouts, pinned, semantics
from probes.device_transfer.pattern import numpy_pattern, torch_pattern
from probes.device_transfer.places import Place, compare_digests, compare_in_place, digest_by_numpy
from probes.device_transfer.spec import SPEC
from probes.kit import breadcrumb
from probes.kit.references import attempted

#: The pattern's size in bytes, of which a few copies exist at a time; on the host no more than the
#: copies need.
_DEVICE_BYTES: Final = 32 * copies.MIB
_HOST_BYTES: Final = -(-copies.LEAST_BYTES // 4096) * 4096

_ONE_MEMORY: Final = "the CPU is the host: there is no way between them; device_to_device is judged"

#: Checks that do not need the device's own pattern; all others do.
_WITHOUT_PATTERN: Final = {"scalars", "device_pattern"}
_PATTERN_WRONG: Final = "its own integers are wrong (device_pattern): copies cannot be judged"


_Family = Callable[[], list[Comparison]]


class Observation(contract.Observation):
    """Comparisons of copies by check, reasons of skipped checks, and rates by direction."""

    device: str
    comparisons: dict[str, tuple[Comparison, ...]]
    skips: dict[str, str] = Field(default_factory=dict)
    bytes_per_second: dict[str, float] = Field(default_factory=dict)
    #: Check -> what is unusual though its copies are right.
    notes: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Copy in each direction; the first copies of the process come before anything else."""
    torch_device = torch.device(device)
    words = (_HOST_BYTES if torch_device.type == "cpu" else _DEVICE_BYTES) // 4
    array = numpy_pattern(words)
    host = Place(torch.device("cpu"), torch.from_numpy(array.copy()), array)
    breadcrumb.check("first_copy")
    first = host.words[:4096].to(torch_device, copy=True)  # before anything else runs there
    breadcrumb.check("device_pattern")
    device_words = torch_pattern(words, device)
    # Of the tensor, whose device has an index.
    there = Place(
        device_words.device, device_words, array if torch_device.type == "cpu" else device_words
    )
    rates: dict[str, float] = {}
    notes: dict[str, str] = {}
    families = _one_place_families(host, there, first)
    why = _ONE_MEMORY
    if torch_device.type != "cpu":
        families |= _two_place_families(host, there)
        breadcrumb.check("pinned_shares")
        why = pinned.why_unavailable(device)
    if not why:
        families |= _pinned_families(host, there, rates, notes)
    comparisons = {
        name: tuple(family())
        for name, family in breadcrumb.families(
            {name: families[name] for name in SPEC.checks if name in families}
        )
    }
    return Observation(
        device=device,
        comparisons=comparisons,
        skips={name: why for name in SPEC.checks if name not in families},
        bytes_per_second=rates,
        notes=notes,
    )


def _one_place_families(host: Place, there: Place, first: torch.Tensor) -> dict[str, _Family]:
    return {
        "first_copy": partial(_first_copies, host, there, first),
        "scalars": partial(semantics.scalars, there),
        "device_pattern": partial(semantics.device_pattern, host, there),
        **_direction_families("device_to_device", there, there),
        "same_device": partial(semantics.to_same_device, there),
        "integrity_sum": partial(_whole_buffers, host, there),
    }


def _direction_families(direction: str, source: Place, target: Place) -> dict[str, _Family]:
    return {
        f"{direction}_sizes": partial(copies.sizes, source, target),
        f"{direction}_dtypes": partial(dtypes.dtypes, source, target),
        f"{direction}_layouts": partial(layouts.layouts, source, target),
        f"{direction}_converts": partial(dtypes.converts, source, target),
    }


def _two_place_families(host: Place, there: Place) -> dict[str, _Family]:
    return {
        **_direction_families("host_to_device", host, there),
        **_direction_families("device_to_host", there, host),
        "to_device_moves": partial(semantics.to_device, host, there),
        "to_host_copies": partial(semantics.to_host, host, there),
    }


def _pinned_families(
    host: Place, there: Place, rates: dict[str, float], notes: dict[str, str]
) -> dict[str, _Family]:
    def to_device() -> list[Comparison]:
        return [
            *pinned.to_device(host, there),
            pinned.whole_to_device(host, there, rates),
        ]

    def to_host() -> list[Comparison]:
        return [*pinned.to_host(host, there), pinned.whole_to_host(host, there, rates)]

    return {
        "pinned_shares": partial(pinned.shares, host, there, notes),
        "host_to_device_pinned": to_device,
        "device_to_host_pinned": to_host,
        "both_at_once": partial(pinned.both_at_once, host, there),
    }


def _first_copies(host: Place, place: Place, sent: torch.Tensor) -> list[Comparison]:
    """Compare the process's first copy into the device, and the first one out of it."""
    back = copies.move(place.words[:4096], host.device)
    return [
        attempted("into the device", lambda: compare_in_place("in", sent, place.reference[:4096])),
        attempted(
            "out of the device", lambda: compare_in_place("out", back, host.reference[:4096])
        ),
    ]


def _whole_buffers(host: Place, place: Place) -> list[Comparison]:
    """Compare whole buffers by digests on the side where they arrived, then the sources again."""
    right = digest_by_numpy(host.reference)

    def compare_whole(operation: str, make: Callable[[], torch.Tensor]) -> Comparison:
        return compare_digests(operation, make(), host.reference, right)

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
    return [attempted(name, partial(compare_whole, name, make)) for name, make in cases.items()]


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for each check; with a wrong device pattern, no copy is judged."""
    pattern = observation.comparisons.get(
        "device_pattern", ()
    )  # missing where it killed the child process
    pattern_wrong = observation.device != "cpu" and not (
        pattern and all(each.holds for each in pattern)
    )
    for name in SPEC.checks:
        check = f"device_transfer.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
            continue
        if pattern_wrong and name not in _WITHOUT_PATTERN:
            yield skipped(check, _PATTERN_WRONG)
            continue
        comparisons = observation.comparisons.get(name, ())
        if observation.device == "cpu":
            yield agree(check, comparisons, hint=advice.ON_CPU, action="fix_image")
            continue
        finding = agree(check, comparisons, hint=advice.hint(name), action="drain")
        if finding.status == "pass" and name in observation.notes:
            note = {"status": "warn", "message": observation.notes[name], "hint": advice.hint(name)}
            finding = finding.model_copy(update={**note, "action": "investigate"})
        yield finding


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield the bytes per second of pinned copies in each direction; nothing on the CPU."""
    for direction, value in observation.bytes_per_second.items():
        yield Measurement(
            name=f"{direction}_bytes_per_second", value=value, unit="bytes_per_second"
        )
