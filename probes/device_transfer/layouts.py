"""Copies from views and into views: strides, offsets, orders of axes, expanded axes."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch

from probes.contract import Comparison
from probes.device_transfer.copies import combined, move
from probes.device_transfer.places import Place, compare_in_place, non_host_side, poison
from probes.kit.references import attempted, fact
from probes.kit.tensors import POISON_BYTE

_POISON_WORD: Final = int.from_bytes(bytes([POISON_BYTE] * 4), "little", signed=True)


#: Name -> view of the words; each works on a tensor and on an array.
_VIEWS: Final[dict[str, Callable[[Any], Any]]] = {
    "contiguous": lambda x: x[:4097],
    "storage offset": lambda x: x[1237:2477],
    "every third": lambda x: x[11:3000:3],
    "transposed": lambda x: x[:1147].reshape(31, 37).swapaxes(0, 1),
    "strided matrix": lambda x: x[100:2100].reshape(40, 50)[1::2, 3::5],
    "column": lambda x: x[:4096].reshape(64, 64)[:, 5],
    "channels last": lambda x: x[:630].reshape(2, 7, 9, 5).swapaxes(1, 3).swapaxes(2, 3),
    "five axes": lambda x: x[:720].reshape(2, 3, 4, 5, 6).swapaxes(0, 3).swapaxes(1, 4),
    "scalar": lambda x: x[24999:25000].reshape(()),
    "empty": lambda x: x[:0].reshape(0, 3),
}


def layouts(source: Place, target: Place) -> list[Comparison]:
    """Compare copies from every view, and into strided, transposed and broadcast destinations."""

    def from_view(name: str, view: Callable[[Any], Any]) -> Comparison:
        source_view, expected = view(source.words), view(target.reference)
        copy = move(source_view, target.device)
        into = (
            poison(4 * source_view.numel(), target.device)
            .view(torch.int32)
            .reshape(source_view.shape)
        )
        into.copy_(source_view)
        dense = name.removeprefix("from ") in {"transposed", "channels last", "five axes"}
        return combined(
            name,
            [
                compare_in_place(name, copy, expected),
                compare_in_place(f"{name}, into", into, expected),
                # A dense source keeps its strides: channels_last stays channels_last.
                fact(
                    f"{name}, strides",
                    copy.stride(),
                    source_view.stride() if dense else copy.stride(),
                ),
            ],
        )

    def into_view(name: str, view: Callable[[Any], Any]) -> Comparison:
        into = poison(4 * 4097, target.device).view(torch.int32)
        source_view, expected = view(source.words), view(target.reference)
        view(into).copy_(source_view)
        # Words beside the view keep the poison, which no word of the source is equal to.
        kept = int((into == _POISON_WORD).sum().item())
        return combined(
            name,
            [
                compare_in_place(name, view(into), expected),
                fact(f"{name}, words beside it", kept, 4097 - source_view.numel()),
            ],
        )

    def expanded() -> Comparison:
        column, expected = source.words[:37].reshape(37, 1), target.reference[:37].reshape(37, 1)
        copy = move(column.expand(37, 11), target.device)
        into = poison(4 * 37 * 11, target.device).view(torch.int32).reshape(37, 11)
        into.copy_(column)
        comparisons = [
            compare_in_place("expanded", copy[:, k : k + 1], expected) for k in range(11)
        ]
        comparisons += [
            compare_in_place("expanded, into", into[:, k : k + 1], expected) for k in range(11)
        ]
        return combined("expanded", comparisons)

    device = non_host_side(source, target)
    destinations = {name: _VIEWS[name] for name in ("every third", "transposed", "strided matrix")}
    destinations["channels last"] = _VIEWS["channels last"]
    return [
        *(
            attempted(f"from {name}", partial(from_view, f"from {name}", view), device)
            for name, view in _VIEWS.items()
        ),
        *(
            attempted(f"into {name}", partial(into_view, f"into {name}", view), device)
            for name, view in destinations.items()
        ),
        attempted("expanded", expanded, device),
    ]
