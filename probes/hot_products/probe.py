"""Runs the products of each type on a device, and judges them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import torch

from probes.contract import GPU_BUSY, Comparison, Finding, Measurement, skipped
from probes.hot_products import ways
from probes.hot_products.kinds import KINDS
from probes.hot_products.observation import Observation
from probes.hot_products.planting import planted
from probes.hot_products.running import GaveWayError, Run, verify
from probes.hot_products.spec import Limits
from probes.kit import families
from probes.kit.families import family_finding, wrong_operations
from probes.kit.trial import Custom, LeftOut, Trial
from probes.node import memory_errors

__all__ = ["FAMILIES", "Limits", "Observation", "judge", "measure", "observe"]

#: Check -> what it compares, in the catalogue's order.
FAMILIES: Final[dict[str, Callable[[Run], Iterator[Comparison]]]] = {
    "planted": planted,
    **{name: partial(verify, kind) for name, kind in KINDS.items()},
}

_HINT: Final = (
    "run it again (`gpu-validator check --probe hot_products`): wrong again on this device alone, "
    "drain the node, reset the GPU, and replace it when it comes back; wrong on every device "
    "alike: the image's libraries are wrong, not the device"
)


def observe(device: str, limits: Limits = Limits()) -> Observation:  # noqa: B008 - frozen
    """Verify products of each type for its share of the seconds."""
    seconds = limits.cpu_seconds if torch.device(device).type == "cpu" else limits.seconds
    way, why = ways.choose(device)
    with memory_errors.opened(device) as board:
        run = Run(device, way, seconds / len(KINDS), board.others, board.temperature_c)
        table = {name: _family(name, body, run) for name, body in FAMILIES.items()}
        seen = families.observe(table, device)
    return Observation(
        **dict(seen), way=way.name, why=why, verified=run.verified, busy=run.gave_way
    )


def _family(
    check: str, body: Callable[[Run], Iterator[Comparison]], run: Run
) -> Callable[[str], Iterator[Trial]]:
    """The one trial of a check; once somebody came, those that follow are left out."""

    def compared(_: str) -> Iterator[Comparison]:
        if run.gave_way:
            raise LeftOut(run.gave_way)
        try:
            yield from body(run)
        except GaveWayError as who:
            run.gave_way = f"{GPU_BUSY}: {who}"
            raise LeftOut(run.gave_way) from who

    return lambda _: iter([Custom(check, compared)])


def judge(observation: Observation, limits: Limits = Limits()) -> Iterator[Finding]:  # noqa: ARG001, B008
    """Yield a finding for every check; how long it took is no matter of a verdict."""
    for name in FAMILIES:
        yield _finding(name, observation)


def _finding(name: str, observation: Observation) -> Finding:
    check = f"hot_products.{name}"
    untold = name in KINDS and name not in observation.verified
    if observation.busy and untold and not wrong_operations(name, observation):
        return skipped(check, observation.busy)
    finding = family_finding(check, observation, hint=_HINT)
    verified = observation.verified.get(name)
    if verified is None:
        return finding
    if finding.status == "pass":
        return finding.model_copy(update={"message": verified.describe()})
    if finding.status != "fail" or not verified.wrong:
        return finding
    told = "; ".join(each.describe() for each in verified.wrong[:3])
    message = f"{verified.wrong_words} words wrong in {verified.describe()}: {told}"
    # What spoils most of all products is the library that multiplies, or the device as a whole.
    action = "investigate" if verified.mostly_wrong else "drain"
    return finding.model_copy(update={"message": message, "action": action})


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield what was verified, at what share of the plain rate, and the rate of each type."""
    verified = observation.verified
    seconds = sum(each.verified_s for each in verified.values())
    products = sum(each.products for each in verified.values())
    yield Measurement(name="verified_seconds", value=seconds, unit="seconds")
    yield Measurement(name="verified_products", value=float(products), unit="products")
    if seconds:
        plain_s = sum(each.plain_s * each.products for each in verified.values())
        yield Measurement(name="verified_rate_ratio", value=plain_s / seconds, unit="ratio")
    for name, each in verified.items():
        yield Measurement(name=f"{name}_flop_per_second", value=each.flops, unit="flop_per_second")
