"""What is observed on a device, and the verdicts on it."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import torch
from pydantic import Field

from probes import contract
from probes.contract import Comparison, Finding, Measurement, agree, skipped
from probes.device_transfer import advice, copies, dtypes, layouts, pinned, semantics
from probes.device_transfer.pattern import made_by_numpy, made_by_torch
from probes.device_transfer.places import Place, digest_by_numpy, held, summed
from probes.device_transfer.spec import SPEC
from probes.kit import breadcrumb
from probes.kit.references import attempted

#: The pattern's size in bytes: the largest copy of the quick profile, and on a host just enough.
_DEVICE_BYTES: Final = 64 * copies.MIB
_HOST_BYTES: Final = -(-copies.LEAST_BYTES // 4096) * 4096

_ONE_MEMORY: Final = "the CPU is the host: there is no way between them; device_to_device is judged"

#: Checks that do not need the device's own pattern; without it nothing else can be told.
_WITHOUT_PATTERN: Final = {"scalars", "device_pattern"}
_BLIND: Final = "its own integers are wrong (device_pattern): copies cannot be judged"


_Family = Callable[[], list[Comparison]]


class Observation(contract.Observation):
    """Copies held against their reference, by check; why a check has none; rates by direction."""

    device: str
    comparisons: dict[str, tuple[Comparison, ...]]
    skips: dict[str, str] = Field(default_factory=dict)
    bytes_per_second: dict[str, float] = Field(default_factory=dict)
    #: What is odd of a check whose copies are right.
    notes: dict[str, str] = Field(default_factory=dict)


def observe(device: str) -> Observation:
    """Copy in each direction that exists, the first copies of the process first."""
    asked = torch.device(device)
    words = (_HOST_BYTES if asked.type == "cpu" else _DEVICE_BYTES) // 4
    array = made_by_numpy(words)
    host = Place(torch.device("cpu"), torch.from_numpy(array.copy()), array)
    breadcrumb.check("first_copy")
    first = host.words[:4096].to(asked, copy=True)  # before anything else runs there
    breadcrumb.check("device_pattern")
    made = made_by_torch(words, device)
    # Its device with its index.
    there = Place(made.device, made, array if asked.type == "cpu" else made)
    rates: dict[str, float] = {}
    notes: dict[str, str] = {}
    families = _of_one_place(host, there, first)
    why = _ONE_MEMORY
    if asked.type != "cpu":
        families |= _of_two_places(host, there)
        breadcrumb.check("pinned_shares")
        why = pinned.unavailable(device)
    if not why:
        families |= _of_pinned(host, there, rates, notes)
    observation = {
        name: tuple(family())
        for name, family in breadcrumb.families(
            {name: families[name] for name in SPEC.checks if name in families}
        )
    }
    return Observation(
        device=device,
        comparisons=observation,
        skips={name: why for name in SPEC.checks if name not in families},
        bytes_per_second=rates,
        notes=notes,
    )


def _of_one_place(host: Place, there: Place, first: torch.Tensor) -> dict[str, _Family]:
    return {
        "first_copy": partial(_first, host, there, first),
        "scalars": partial(semantics.scalars, there),
        "device_pattern": partial(semantics.reference, host, there),
        **_of_a_way("device_to_device", there, there),
        "same_device": partial(semantics.to_same_device, there),
        "integrity_sum": partial(_sums, host, there),
    }


def _of_a_way(way: str, source: Place, target: Place) -> dict[str, _Family]:
    return {
        f"{way}_sizes": partial(copies.sizes, source, target),
        f"{way}_dtypes": partial(dtypes.dtypes, source, target),
        f"{way}_layouts": partial(layouts.layouts, source, target),
        f"{way}_converts": partial(dtypes.converts, source, target),
    }


def _of_two_places(host: Place, there: Place) -> dict[str, _Family]:
    return {
        **_of_a_way("host_to_device", host, there),
        **_of_a_way("device_to_host", there, host),
        "to_device_moves": partial(semantics.to_moves, host, there),
        "to_host_copies": partial(semantics.host_copies, host, there),
    }


def _of_pinned(
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


def judge(observation: Observation) -> Iterator[Finding]:
    """Each family of copies: all bits, or the first that is wrong, and the direction by name."""
    pattern = observation.comparisons.get("device_pattern", ())  # none where it was deadly
    blind = observation.device != "cpu" and not (pattern and all(each.holds for each in pattern))
    for name in SPEC.checks:
        check = f"device_transfer.{name}"
        if name in observation.skips:
            yield skipped(check, observation.skips[name])
            continue
        if blind and name not in _WITHOUT_PATTERN:
            yield skipped(check, _BLIND)
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
    """How fast pinned memory is copied in each direction; nothing on the CPU."""
    for way, value in observation.bytes_per_second.items():
        yield Measurement(name=f"{way}_bytes_per_second", value=value, unit="bytes_per_second")
