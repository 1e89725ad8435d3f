"""What breaks this process, on purpose and for good: only for a worker's forked child."""

import importlib
from typing import Any

from probes.faults.fault import Fault
from probes.faults.table import BY_NAME

#: The one probe that takes longer than a fork, and can be asked for some of its checks.
_NARROWED = "tensor_ops"


def apply(name: str, device: str) -> None:
    """Inject a fault of the table into this process, whose probes run on a device.

    Raises:
        KeyError: there is no fault of that name.
    """
    fault = BY_NAME[name]
    _narrow(fault)
    for injection in fault.inject:
        module, _, function = injection.function.partition(".")
        inject = getattr(importlib.import_module(f"probes.faults.inject.{module}"), function)
        inject(**injection.arguments, **({"device": device} if injection.on_device else {}))


def _narrow(fault: Fault) -> None:
    """Have the longest probe make no other checks than the fault is about: seconds, over all."""
    named = [check for check in (*fault.trips, *fault.spares) if check.startswith(_NARROWED)]
    asked = {check.partition(".")[2] for check in named}
    if not asked or fault.kind == "control":
        return
    probe: Any = importlib.import_module(f"probes.{_NARROWED}.probe")
    probe.FAMILIES = {name: body for name, body in probe.FAMILIES.items() if name in asked}
