"""Injects faults into this process, for the rest of its life: only for a worker's forked child."""

import importlib

from probes.faults.table import BY_NAME


def apply(name: str, device: str) -> None:
    """Inject a fault of the table into this process; `device` is where its probes run.

    Raises:
        KeyError: there is no fault of that name.
    """
    fault = BY_NAME[name]
    for injection in fault.inject:
        module, _, function = injection.function.partition(".")
        inject = getattr(importlib.import_module(f"probes.faults.inject.{module}"), function)
        inject(**injection.arguments, **({"device": device} if injection.on_device else {}))
