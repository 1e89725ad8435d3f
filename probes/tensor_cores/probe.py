"""Runs the units of a device, and judges what they answered."""

from collections.abc import Iterator
from typing import Final

from probes.contract import GPU_BUSY, Finding, Measurement, require, skipped
from probes.kit import breadcrumb
from probes.kit.capabilities import back_end, capability
from probes.kit.families import family_finding
from probes.kit.kernels import Unavailable
from probes.node import memory_errors
from probes.tensor_cores import machine
from probes.tensor_cores.observation import PARTITIONS, Coverage, Observation
from probes.tensor_cores.rounds import GaveWayError, Rounds
from probes.tensor_cores.units import NAMES

__all__ = ["Coverage", "Observation", "judge", "measure", "observe"]

_HINT: Final = (
    "run it again; the same multiprocessor again, in whatever type: drain the node, reset the GPU, "
    "and replace it when it comes back; other multiprocessors each time: look at its power, clocks "
    "and temperature"
)
_EVERYWHERE_HINT: Final = (
    "units do not break together: compare with another GPU of the same kind; wrong there too, the "
    "driver, NVRTC or this probe is wrong, not the GPU"
)


def observe(device: str) -> Observation:
    """Run every unit on every multiprocessor; nothing where our kernels cannot run."""
    try:
        found = machine.choose(device)
    except Unavailable as why:
        return Observation(
            device=device,
            families={},
            back_end=back_end(device),
            capability=capability(device),
            skip=f"only a kernel of our own tells where it ran: {why}",
        )
    asked = [name for name, _ in breadcrumb.families(dict.fromkeys((*NAMES, "planted")))]
    busy = ""
    with memory_errors.opened(device) as board:
        rounds = Rounds(found, asked, board.others)
        try:
            if "planted" in asked:
                rounds.plant()
            rounds.run()
        except GaveWayError as who:
            busy = f"{GPU_BUSY}: {who}"
    breadcrumb.check("")
    ran = {name: of for name, of in rounds.tally.of.items() if of.elements}
    families = {name: of.comparisons() for name, of in ran.items()}
    if rounds.planted:
        families["planted"] = tuple(rounds.planted)
    return Observation(
        device=device,
        families=families,
        back_end=back_end(device),
        capability=capability(device),
        asked=tuple(asked),
        absent=found.absent,
        wrong={name: wrong for name, of in ran.items() if (wrong := of.wrong())},
        coverage=rounds.coverage(),
        busy=busy,
    )


def judge(observation: Observation) -> Iterator[Finding]:
    """Yield a finding for every check."""
    for name in (*NAMES, "planted"):
        yield _unit_finding(name, observation)
    yield _coverage_finding(observation)


def _unit_finding(name: str, observation: Observation) -> Finding:
    check = f"tensor_cores.{name}"
    holds = all(each.holds for each in observation.families.get(name, ()))
    if why := observation.skip or observation.absent.get(name, ""):
        return skipped(check, why)
    if observation.busy and holds:
        return skipped(check, observation.busy)
    finding = family_finding(check, observation, hint=_HINT)
    wrong = observation.wrong.get(name)
    if finding.status == "pass" and name in observation.coverage.units:
        covered = observation.coverage.units[name]
        message = (
            f"{covered.multiprocessors} of {observation.coverage.multiprocessors} SMs, "
            f"{covered.partitions} sub-partitions"
        )
        return finding.model_copy(update={"message": message})
    if finding.status != "fail" or wrong is None:
        return finding
    return finding.model_copy(
        update={
            "message": wrong.describe(),
            "hint": _EVERYWHERE_HINT if wrong.everywhere else _HINT,
            "action": "investigate" if wrong.everywhere else "drain",
        }
    )


def _coverage_finding(observation: Observation) -> Finding:
    """Less than all of it is a warning: nothing is known of the rest."""
    check, coverage = "tensor_cores.coverage", observation.coverage
    if why := observation.skip or observation.busy:
        return skipped(check, why)
    if observation.asked is not None and not set(NAMES) & set(observation.asked):
        return skipped(check, "no unit was asked for")
    missing: dict[str, list[str]] = {}
    for name, each in coverage.units.items():
        if not each.whole(coverage.multiprocessors):
            places = ", ".join(each.missing) or "places without a name"
            missing.setdefault(places, []).append(name)
    finding = require(
        check,
        coverage.whole,
        coverage.seen,
        f"{coverage.multiprocessors} SMs, {PARTITIONS} sub-partitions each, in every type",
        message=f"{coverage.describe()}; not seen in {coverage.tries} more tries: "
        + "; ".join(f"{places} ({', '.join(names)})" for places, names in missing.items()),
        hint="nothing is known of the rest: run it again on a drained node, with no other process, "
        "no MPS limit and no MIG change; the same multiprocessor again: reset the GPU",
        action="investigate",
        otherwise="warn",
    )
    if finding.status == "pass":
        return finding.model_copy(update={"message": coverage.describe()})
    return finding


def measure(observation: Observation) -> Iterator[Measurement]:
    """Yield how many multiprocessors have computed in every type."""
    if observation.coverage.units:
        yield Measurement(
            name="multiprocessors_verified",
            value=float(observation.coverage.seen),
            unit="multiprocessors",
            threshold=float(observation.coverage.multiprocessors),
        )
