"""Semantics of copies: a tensor with its own memory, on the right device; the source unchanged."""

from typing import Final

import torch

from probes.contract import Comparison
from probes.device_transfer.places import Place, compare_digests, compare_in_place, digest
from probes.kit.references import attempted_all, fact
from probes.kit.tensors import refusal

_WORDS: Final = 4096
_PART: Final = slice(0, _WORDS)


def _separate_memory(operation: str, source: torch.Tensor, copy: torch.Tensor) -> list[Comparison]:
    """Verify that a write into either tensor does not change the other; digests on each device."""
    before = digest(source), digest(copy)
    copy.bitwise_not_()
    after_copy_changed = digest(source)
    copy.bitwise_not_()
    source.bitwise_not_()
    after_source_changed = digest(copy)
    source.bitwise_not_()
    return [
        fact(f"{operation}: a write to the copy shows", after_copy_changed == before[0], True),
        fact(f"{operation}: a write to the source shows", after_source_changed == before[1], True),
    ]


def to_same_device(place: Place) -> list[Comparison]:
    """Verify that `to()` without a change gives the tensor itself, and `copy=True` a copy."""

    def facts() -> list[Comparison]:
        x = place.words[:_WORDS].clone()
        there = place.device
        copies = {
            "to(device, copy=True)": x.to(there, copy=True),
            "to(dtype, copy=True)": x.to(x.dtype, copy=True),
            "clone()": x.clone(),
        }
        return [
            fact("to(device) is the tensor itself", x.to(there) is x, True),
            fact("to(its dtype) is the tensor itself", x.to(x.dtype) is x, True),
            fact("to(like itself) is the tensor itself", x.to(x) is x, True),
            fact("contiguous() is the tensor itself", x.contiguous() is x, True),
            fact("to(int64)", x.to(torch.int64).dtype, torch.int64),
            *(
                compare_in_place(name, copy, place.reference[_PART])
                for name, copy in copies.items()
            ),
            *(each for name, copy in copies.items() for each in _separate_memory(name, x, copy)),
            compare_in_place("the source afterwards", x, place.reference[_PART]),
        ]

    return attempted_all("to", facts, str(place.device))


def to_device(host: Place, device: Place) -> list[Comparison]:
    """Verify that `to(device)` makes a tensor on the device and leaves the source unchanged."""

    def facts() -> list[Comparison]:
        x = torch.from_numpy(host.reference[_PART].copy())
        copies = {
            "to(device)": x.to(device.device),
            "to(device, dtype)": x.to(device.device, torch.int32),
            "to(other)": x.to(device.words),
            "tensor(list, device)": torch.tensor(
                host.reference[_PART].tolist(), dtype=torch.int32, device=device.device
            ),
        }
        return [
            *(fact(f"{name}: place", copy.device, device.device) for name, copy in copies.items()),
            *(
                compare_in_place(name, copy, device.reference[_PART])
                for name, copy in copies.items()
            ),
            fact("the source stays on the host", x.device.type, "cpu"),
            *_separate_memory("to(device)", x, copies["to(device)"]),
            compare_in_place("the source afterwards", x, host.reference[_PART]),
        ]

    return attempted_all("to(device)", facts, str(device.device))


def to_host(host: Place, device: Place) -> list[Comparison]:
    """Verify that tensors on the host are copies, and that `numpy()` of a device is refused."""

    def facts() -> list[Comparison]:
        x = device.words[:_WORDS] + 0
        copies = {
            "cpu()": x.cpu(),
            "to('cpu')": x.to("cpu"),
            "numpy(force=True)": torch.from_numpy(x.numpy(force=True)),
        }
        return [
            *(fact(f"{name}: place", copy.device.type, "cpu") for name, copy in copies.items()),
            *(compare_in_place(name, copy, host.reference[_PART]) for name, copy in copies.items()),
            *(each for name, copy in copies.items() for each in _separate_memory(name, x, copy)),
            fact("numpy() of a device is refused", bool(refusal(x.numpy)), True),
        ]

    return attempted_all("cpu", facts, str(device.device))


def scalars(place: Place) -> list[Comparison]:
    """Compare `item()` and `tolist()` of numbers that the device computed."""

    def facts() -> list[Comparison]:
        x = torch.arange(8, device=place.device)
        return [
            fact("item()", [int(x[k].item()) for k in range(8)], list(range(8))),
            fact("item() of a large number", (x[1] * (2**53 + 1) - 2).item(), 2**53 - 1),
            fact("item() of a fraction", (x[3] / 8).item(), 0.375),
            fact("item() of a bool", (x[:2] == 1).any().item(), True),
            fact("tolist()", x.reshape(2, 4).tolist(), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ]

    return attempted_all("item", facts, str(place.device))


def device_pattern(host: Place, device: Place) -> list[Comparison]:
    """Compare the device's pattern with the host's, and that the device finds one wrong bit."""

    def facts() -> list[Comparison]:
        x = device.words[:_WORDS] + 0
        x[1234:1235].bitwise_xor_(1 << 9)
        mismatches = int((x != device.words[:_WORDS]).sum().item())
        return [
            compare_digests("pattern", device.words, host.reference),
            fact("wrong words seen of one planted", mismatches, 1),
        ]

    return attempted_all("pattern", facts, str(device.device))
