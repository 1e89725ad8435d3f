"""The scale from iteration to iteration."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from probes.amp.scalers import Counting, Parameters, scaler, started
from probes.contract import Comparison
from probes.kit.gradients import leaf, tensor
from probes.kit.trial import Custom, Trial, fact

#: Factors of which none is torch's default.
OPTIONS: Final[dict[str, Any]] = {
    "init_scale": 2.0**6,
    "growth_factor": 4.0,
    "backoff_factor": 0.125,
    "growth_interval": 3,
}


def growth(_device: str) -> Iterator[Trial]:
    """By default factors, by others, by new ones and by hand."""
    yield Custom("update", _sequence)
    yield Custom("update (default factors)", _defaults)
    yield Custom("set_growth_factor", _changed)
    yield Custom("update (new_scale)", _by_hand)


def iterations(made: Any, device: str, fates: str) -> Sequence[float]:
    """The scale after each iteration; `x` is one with an Inf."""
    weight = leaf([0.0, 0.0], device)
    optimizer = Counting([weight])
    scales = []
    for fate in fates:
        made.scale(tensor(0.0, device))
        weight.grad = tensor([1.0, float("inf") if fate == "x" else 1.0], device)
        made.step(optimizer)
        made.update()
        scales.append(made.get_scale())
    return scales


def _scales(
    fates: str, scale: float, grow: float, back: float, interval: int, good: int = 0
) -> list[float]:
    """The scale after each iteration, as documented."""
    scales = []
    for fate in fates:
        good = 0 if fate == "x" else good + 1
        if fate == "x":
            scale *= back
        elif good == interval:
            scale, good = scale * grow, 0
        scales.append(scale)
    return scales


def _sequence(device: str) -> Iterator[Comparison]:
    """It grows after an interval of steps without Inf, which an Inf begins anew."""
    fates = "......x...x..x...xx...."
    found = iterations(scaler(device, **OPTIONS), device, fates)
    yield fact("update (scales)", list(found), _scales(fates, 2.0**6, 4.0, 0.125, 3))
    fates = "..x."
    found = iterations(scaler(device, **{**OPTIONS, "growth_interval": 1}), device, fates)
    yield fact("update (interval of 1)", list(found), _scales(fates, 2.0**6, 4.0, 0.125, 1))


def _defaults(device: str) -> Iterator[Comparison]:
    """A factor of 2 both ways; 2000 steps are not waited for."""
    made = scaler(device, init_scale=2.0**16, growth_interval=2)
    yield fact(
        "update (default factors)",
        list(iterations(made, device, "..x")),
        [2.0**16, 2.0**17, 2.0**16],
    )
    found = (
        made.get_growth_factor(),
        made.get_backoff_factor(),
        scaler(device).get_growth_interval(),
    )
    yield fact("update (defaults)", found, (2.0, 0.5, 2000))


def _changed(device: str) -> Iterator[Comparison]:
    """Factors and interval that change between iterations."""
    made = scaler(device, **OPTIONS)
    iterations(made, device, "..")
    made.set_growth_factor(8.0)
    made.set_backoff_factor(0.25)
    made.set_growth_interval(4)
    found = iterations(made, device, "..x")
    yield fact("set_growth_factor (scales)", list(found), [2.0**6, 2.0**9, 2.0**7])


def _by_hand(device: str) -> Iterator[Comparison]:
    """A number, and a tensor that changes afterwards."""
    made = started(device)
    made.update(new_scale=8.0)
    yield fact("update (new_scale, float)", made.get_scale(), 8.0)
    given = tensor(32.0, device)
    made.update(new_scale=given)
    given.fill_(3.0)
    yield fact("update (new_scale, tensor)", made.get_scale(), 32.0)
    parameters = Parameters(device)
    optimizer = Counting(parameters.all)
    parameters.scaled(32.0)
    made.step(optimizer)
    yield from parameters.stepped("update (new_scale,", 0.5)
