"""Copies of and into views: strides, offsets, orders of axes, expanded axes."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch

from probes.contract import Comparison
from probes.device_transfer.copies import move, together
from probes.device_transfer.places import Place, apart_from_host, held, poison
from probes.kit.references import attempted, fact
from probes.kit.tensors import POISON_BYTE

_POISON_WORD: Final = int.from_bytes(bytes([POISON_BYTE] * 4), "little", signed=True)


#: Views of the words that a tensor and an array both understand.
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
    """Views of every kind as a source; strided, transposed and broadcast destinations."""

    def from_view(name: str, view: Callable[[Any], Any]) -> Comparison:
        observation, expected = view(source.words), view(target.reference)
        made = move(observation, target.device)
        into = (
            poison(4 * observation.numel(), target.device)
            .view(torch.int32)
            .reshape(observation.shape)
        )
        into.copy_(observation)
        dense = name.removeprefix("from ") in {"transposed", "channels last", "five axes"}
        return together(
            name,
            [
                held(name, made, expected),
                held(f"{name}, into", into, expected),
                # A dense source keeps its strides: channels_last stays channels_last.
                fact(
                    f"{name}, strides",
                    made.stride(),
                    observation.stride() if dense else made.stride(),
                ),
            ],
        )

    def into_view(name: str, view: Callable[[Any], Any]) -> Comparison:
        into = poison(4 * 4097, target.device).view(torch.int32)
        observation, expected = view(source.words), view(target.reference)
        view(into).copy_(observation)
        # Words beside the view keep their poison, which is in no word of the view's source.
        kept = int((into == _POISON_WORD).sum().item())
        return together(
            name,
            [
                held(name, view(into), expected),
                fact(f"{name}, words beside it", kept, 4097 - observation.numel()),
            ],
        )

    def expanded() -> Comparison:
        column, right = source.words[:37].reshape(37, 1), target.reference[:37].reshape(37, 1)
        made = move(column.expand(37, 11), target.device)
        into = poison(4 * 37 * 11, target.device).view(torch.int32).reshape(37, 11)
        into.copy_(column)
        pairs = [held("expanded", made[:, k : k + 1], right) for k in range(11)]
        pairs += [held("expanded, into", into[:, k : k + 1], right) for k in range(11)]
        return together("expanded", pairs)

    device = apart_from_host(source, target)
    spread = {name: _VIEWS[name] for name in ("every third", "transposed", "strided matrix")}
    spread["channels last"] = _VIEWS["channels last"]
    return [
        *(
            attempted(f"from {name}", partial(from_view, f"from {name}", view), device)
            for name, view in _VIEWS.items()
        ),
        *(
            attempted(f"into {name}", partial(into_view, f"into {name}", view), device)
            for name, view in spread.items()
        ),
        attempted("expanded", expanded, device),
    ]
