"""Injects faults into this process, for the rest of its life: only for a worker's forked child."""

import importlib
from typing import Any

from probes.faults.fault import Fault
from probes.faults.table import BY_NAME

#: Probes that take longer than a fork, and that can run some of their checks only.
_LIMITED = (
    "tensor_ops",
    "special_functions",
    "linalg",
    "optimizer",
    "attention",
    "dataloader",
    "compiled",
)


def apply(name: str, device: str) -> None:
    """Inject a fault of the table into this process; `device` is where its probes run.

    Raises:
        KeyError: there is no fault of that name.
    """
    fault = BY_NAME[name]
    _limit_checks(fault)
    for injection in fault.inject:
        module, _, function = injection.function.partition(".")
        inject = getattr(importlib.import_module(f"probes.faults.inject.{module}"), function)
        inject(**injection.arguments, **({"device": device} if injection.on_device else {}))


def _limit_checks(fault: Fault) -> None:
    """Limit the slow probes to the checks that the fault names, which saves time in a selftest."""
    if fault.kind == "control":
        return
    for name in set(_LIMITED).intersection(fault.probes):
        probe: Any = importlib.import_module(f"probes.{name}.probe")
        checks = {check.removeprefix(f"{name}.") for check in (*fault.trips, *fault.spares)}
        probe.FAMILIES = {check: body for check, body in probe.FAMILIES.items() if check in checks}
