"""The table of faults: every check has a fault, every name exists, and it needs no torch."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probes.catalog import BY_NAME as PROBES
from probes.catalog import CATALOG
from probes.faults.fault import Fault
from probes.faults.table import BY_NAME, CONTROLS, FAULTS

ROOT = Path(__file__).parents[3]
IDS = {f"{spec.name}.{check}" for spec in CATALOG for check in spec.promises}
EVERY = (*FAULTS, *CONTROLS)


@pytest.mark.parametrize("check", [check for spec in CATALOG for check in spec.check_ids])
def test_every_check_has_a_fault(check: str) -> None:
    """Every check must be tripped by at least one fault."""
    assert [fault.name for fault in FAULTS if check in fault.trips]


def test_names_are_unique() -> None:
    """A fault is selected by its name."""
    assert len(BY_NAME) == len(EVERY)


@pytest.mark.parametrize("fault", EVERY, ids=lambda fault: fault.name)
def test_a_fault_is_complete(fault: Fault) -> None:
    """Its checks and probes exist, it has a source, and its functions take its arguments."""
    assert {*fault.trips, *fault.spares} <= IDS
    assert not {*fault.trips} & {*fault.spares}
    assert fault.probes
    assert fault.event.text
    assert fault.event.source.startswith("https://")
    assert fault.inject or fault.files
    for injection in fault.inject:
        module, _, name = injection.function.partition(".")
        function = getattr(importlib.import_module(f"probes.faults.inject.{module}"), name)
        device = {"device": "cpu"} if injection.on_device else {}
        inspect.signature(function).bind(**injection.arguments, **device)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_must_be_reported(fault: Fault) -> None:
    """It must trip a check or set a result's reason; a control does neither."""
    assert fault.trips or fault.reason


def test_probes_run_where_the_fault_is() -> None:
    """A fault on a device has only checks of probes that need a device; similarly for a worker."""
    for fault in FAULTS:
        needs = {PROBES[name].needs for name in fault.probes}
        if fault.where in {"any", "cpu", "accelerator"}:
            assert needs == {"device"}, fault.name
        if fault.where == "worker":
            assert fault.probes == ("torch_version",), fault.name


def test_every_kind_of_event_is_there() -> None:
    """Operations, copies, meanings, processes, environments and imports."""
    kinds = {fault.kind for fault in FAULTS}

    assert kinds == {"operation", "transfer", "semantics", "process", "environment", "import"}


def test_the_table_needs_no_torch() -> None:
    """`selftest --list` works where torch is what is broken."""
    program = "import probes.faults, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert not {"torch", "numpy", "probes.faults.inject"} & set(done.stdout.split())
