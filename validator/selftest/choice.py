"""Which faults are injected: by what was asked for, on which devices, and with which checks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from packaging.version import InvalidVersion, Version

from probes.catalog import AUTOGRAD, BY_NAME, CATALOG, TENSOR_OPS, TRAIN_EVAL
from probes.contract import ProbeSpec
from probes.faults.fault import Fault
from probes.faults.table import FAULTS
from validator.engine.plan import Plan
from validator.report import CPU, Device, Report
from validator.selftest.verdicts import OF_GRADIENTS, RIVALS, Trial, is_about_gradients

#: Quick probes of many families.
_DEAR: Final = (TENSOR_OPS, TRAIN_EVAL, AUTOGRAD)


@dataclass(frozen=True)
class Options:
    """Which faults, and what hears of each trial: (trial, how many there are)."""

    probes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    on_trial: Callable[[Trial, int], None] = lambda _trial, _total: None
    timeout_s: float | None = None  # after which what was decided is all; None: no end


def fault_names() -> list[str]:
    """The names of all faults that can be injected."""
    return [fault.name for fault in FAULTS]


def choose(options: Options, known: Iterable[Fault] = FAULTS) -> tuple[Fault, ...]:
    """The faults that are asked for: by name, by their probes, or all but those of deep probes.

    What a deep probe does without a fault would take as long as all others together.
    """
    named = bool(options.probes or options.faults)
    return tuple(
        fault
        for fault in known
        if (named or not any(BY_NAME[name].profile == "deep" for name in fault.probes))
        and (not options.faults or fault.name in options.faults)
        and (not options.probes or set(options.probes) & set(fault.probes))
    )


def plan(options: Options) -> Plan:
    """The control's probes: all, or those of the chosen faults."""
    faults = choose(options)
    names = {probe for fault in faults for probe in fault.probes}
    everything = not (options.probes or options.faults)
    specs = tuple(
        spec for spec in CATALOG if spec.name in names or (everything and spec.profile != "deep")
    )
    return Plan(specs, "quick", "cli")


def left_out(fault: Fault, specs: Iterable[ProbeSpec]) -> dict[str, list[str]]:
    """The checks of dear probes that the fault says nothing about: to make them takes seconds.

    And the rule for gradients, where it is not scored.
    """
    named = {*fault.trips, *fault.spares}
    without = {
        spec.name: [check for check in spec.checks if f"{spec.name}.{check}" not in named]
        for spec in specs
        if (spec.is_heavy or spec in _DEAR) and named & set(spec.check_ids)
    }
    if not is_about_gradients(fault):
        without[RIVALS.name] = [OF_GRADIENTS]
    return without


def devices_for(fault: Fault, control: Report) -> tuple[Device, ...]:
    """Where a fault is injected on this machine."""
    if fault.where == "node":
        return (_device_named(CPU, fault.device),)
    present = control.devices or (CPU,)
    if fault.where in {"host", "worker"}:
        return (CPU,)
    return tuple(
        device
        for device in present
        if fault.where == "any" or (device.type == "cpu") == (fault.where == "cpu")
    )


def why_too_old(torch: str, fault: Fault) -> str:
    """Why a fault cannot be injected into that version of torch; empty where it can."""
    if not fault.since:
        return ""
    try:
        too_old = Version(torch) < Version(fault.since)
    except InvalidVersion:  # a build with a name of its own
        return ""
    return f"torch {fault.since} and later can be broken so; this is {torch}" if too_old else ""


def _device_named(device: Device, name: str) -> Device:
    """A device that is not there, under the name of one that might be."""
    kind, _, index = name.partition(":")
    return device.model_copy(update={"name": name, "type": kind, "index": int(index or 0)})
