"""Injects faults into this process, for the rest of its life: only for a worker's forked child."""

import importlib
from typing import Any

from probes.faults.fault import Fault
from probes.faults.table import BY_NAME

#: The one probe that takes longer than a fork, and that can run some of its checks only.
_SLOW_PROBE = "tensor_ops"


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
    """Limit the slow probe to the checks that the fault names, which saves time in a selftest."""
    ids = [check for check in (*fault.trips, *fault.spares) if check.startswith(_SLOW_PROBE)]
    checks = {check.partition(".")[2] for check in ids}
    if not checks or fault.kind == "control":
        return
    probe: Any = importlib.import_module(f"probes.{_SLOW_PROBE}.probe")
    probe.FAMILIES = {name: body for name, body in probe.FAMILIES.items() if name in checks}
