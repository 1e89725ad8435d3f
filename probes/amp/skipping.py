"""A step is skipped where a gradient is not finite, and nowhere else."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from probes.amp.scalers import SCALE, Counting, Parameters, started
from probes.contract import Comparison
from probes.kit.gradients import leaf, tensor
from probes.kit.trial import Custom, Trial, fact

_BAD: Final = (float("inf"), float("-inf"), float("nan"))

#: The first and the last element of the first and the last parameter, and one without dimensions.
_PLACES: Final = ((0, 0), (0, -1), (1, 0), (3, 0), (-1, 0), (-1, -1))

#: Its product with the scale is the largest finite number of float32, or nearly so.
_LARGEST: Final = 2.0**127


def skipping(_device: str) -> Iterator[Trial]:
    """One element that is not finite, large ones that are, and one of several optimizers."""
    for bad in _BAD:
        for place in _PLACES:
            yield Custom(f"{bad}", partial(_skipped, bad, place))
    yield Custom("Inf after unscale_", _after_unscale)
    yield Custom("large gradients", _large)
    for bad in _BAD:
        yield Custom("two optimizers", partial(_two, bad))


def _skipped(bad: float, place: tuple[int, int], device: str) -> Iterator[Comparison]:
    """Neither parameters nor momentum change; the scale halves; the next step is taken."""
    made, parameters = started(device), Parameters(device)
    optimizer = Counting(parameters.all, momentum=0.5)
    label = f"{bad} (at {place},"
    parameters.scaled(SCALE)
    made.step(optimizer)
    made.update()
    parameters.scaled(SCALE, bad, place)
    made.step(optimizer)
    made.update()
    yield fact(f"{label} scale)", made.get_scale(), SCALE / 2)
    yield fact(f"{label} steps)", optimizer.steps, 1)
    yield from parameters.stepped(f"{label} skipped,", 0.5)
    parameters.scaled(SCALE / 2)
    made.step(optimizer)
    made.update()
    yield from parameters.stepped(f"{label} next,", [0.5, 0.75])


def _after_unscale(device: str) -> Iterator[Comparison]:
    """The element is found by unscale_, and the step behind it is skipped."""
    made, parameters = started(device), Parameters(device)
    optimizer = Counting(parameters.all)
    parameters.scaled(SCALE, float("inf"))
    made.unscale_(optimizer)
    parameters.scaled(1.0)
    made.step(optimizer)
    made.update()
    yield fact("Inf after unscale_ (scale)", made.get_scale(), SCALE / 2)
    yield from parameters.stepped("Inf after unscale_ (skipped,", 0.0)


def _large(device: str) -> Iterator[Comparison]:
    """The largest finite gradients are none to skip."""
    made = started(device)
    weight = leaf([0.0] * 4, device)
    optimizer = Counting([weight], lr=1.0)
    weight.grad = tensor([_LARGEST] * 4, device)
    made.step(optimizer)
    made.update()
    found = weight.detach().cpu().tolist()
    yield fact("large gradients (step)", found, [-_LARGEST / SCALE] * 4)
    yield fact("large gradients (scale)", made.get_scale(), SCALE)


def _two(bad: float, device: str) -> Iterator[Comparison]:
    """Each optimizer decides for itself; one that skips is enough to halve the scale."""
    for which in (0, 1):
        made = started(device)
        parts = [Parameters(device, salt=20 * i) for i in range(2)]
        optimizers = [Counting(part.all) for part in parts]
        for i, part in enumerate(parts):
            part.scaled(SCALE, bad if i == which else None)
        for optimizer in optimizers:
            made.step(optimizer)
        made.update()
        label = f"two optimizers ({bad} in {which},"
        yield fact(f"{label} scale)", made.get_scale(), SCALE / 2)
        for i, part in enumerate(parts):
            yield from part.stepped(f"{label} {i},", 0.0 if i == which else 0.5)
        yield fact(
            f"{label} steps)",
            [each.steps for each in optimizers],
            [int(i != which) for i in (0, 1)],
        )
