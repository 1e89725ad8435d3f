"""What breaks this process, on purpose and for good: only for a worker's forked child."""

import importlib

from probes.faults.table import BY_NAME


def apply(name: str, device: str) -> None:
    """Inject a fault of the table into this process, whose probes run on a device.

    Raises:
        KeyError: there is no fault of that name.
    """
    for injection in BY_NAME[name].inject:
        module, _, function = injection.function.partition(".")
        inject = getattr(importlib.import_module(f"probes.faults.inject.{module}"), function)
        inject(**injection.arguments, **({"device": device} if injection.on_device else {}))
