"""Gradients in half types, of complex numbers and of operations in place, each by its formula."""

from collections.abc import Iterator

import torch

from probes.dtypes.element_gradients import elements, pairs
from probes.dtypes.row_gradients import rows, spectra
from probes.dtypes.write_gradients import parts, writes
from probes.kit.layer import trials
from probes.kit.precision import read
from probes.kit.references import UNIT_ROUNDOFF
from probes.kit.trial import Trial
from probes.kit.typed.in_place_gradients import in_place
from probes.kit.typed.moved_gradients import moves, orders, sums


def gradients(device: str) -> Iterator[Trial]:
    """Of moves, writes and sums, in place, of elements, of rows, and of transforms.

    A variable may let a library shorten products whatever torch's switches say.
    """
    shortened = bool(read(device).forced_by)
    product_unit = UNIT_ROUNDOFF[torch.bfloat16 if shortened else torch.float32]
    moved = (*moves(), *writes(), *parts(), *sums(), *orders(), *in_place())
    computed = (*elements(), *pairs(), *rows(product_unit), *spectra())
    yield from trials((*moved, *computed), device)
