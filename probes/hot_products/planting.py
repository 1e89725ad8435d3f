"""Bits that are flipped on purpose in results, which the comparison must find."""

from collections.abc import Iterator
from typing import Final

import torch

from probes.contract import Comparison
from probes.hot_products.kinds import KINDS
from probes.hot_products.running import Products, Run
from probes.kit.trial import fact

_SIZE: Final = 128

#: Row, word of the row and bit: at even and at odd words, in the first and in the last row.
_PLACES: Final = ((0, 0, 0), (3, 17, 31), (77, 40, 32), (_SIZE - 1, _SIZE // 2 - 1, 63))


def planted(run: Run) -> Iterator[Comparison]:
    """Each bit is found at its place in the product that has it, and nowhere else."""
    products = Products(KINDS["float32"], _SIZE, run.device)
    label = f"planted bits by {run.way.name}"
    rows = torch.arange(_SIZE, device=run.device)
    for number in range(4):
        first = products.first(number)
        right = products.rows.index_select(0, (rows + first) % len(products.rows))
        words = right.view(torch.int64)
        if number:
            row, word, bit = _PLACES[number]
            words[row, word] ^= -(2**63) if bit == 63 else 1 << bit
        products.compare(run.way, number, right)
    found = run.way.found()
    told = sorted((one.product, one.row, one.word, one.bits) for one in found.words)
    flipped = [(place, row, word, 1 << bit) for place, (row, word, bit) in enumerate(_PLACES)]
    yield fact(f"{label} (how many)", found.wrong, len(_PLACES) - 1)
    yield fact(f"{label} (places)", told, flipped[1:])
    yield fact(f"{label} (words compared)", found.compared, 4 * products.words)
