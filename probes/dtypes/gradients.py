"""Gradients in half types, of complex numbers and of operations in place, each by its formula."""

from collections.abc import Iterator

from probes.dtypes.element_gradients import elements
from probes.dtypes.row_gradients import rows, spectra
from probes.kit.layer import trials
from probes.kit.trial import Trial
from probes.kit.typed.in_place_gradients import in_place
from probes.kit.typed.moved_gradients import moves, orders, sums


def gradients(device: str) -> Iterator[Trial]:
    """Of moves and sums, in place, of elements, of norms and distances, and of transforms."""
    found = (*moves(), *sums(), *orders(), *in_place(), *elements(), *rows(), *spectra())
    yield from trials(found, device)
