"""Modes of the processor: this one is sound, and each other mode is told."""

import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import FLOAT_MODE
from probes.contract import Finding
from probes.faults.inject import modes
from probes.float_mode import probe
from probes.float_mode.faults import FAULTS
from probes.kit import float_traps
from tests.probes.under_fault import tripped_by_fault
from tests.probes.verdicts import ids, tripped


def judged(observation: probe.Observation) -> dict[str, Finding]:
    """The findings by check."""
    found = list(probe.judge(observation))
    assert ids(found) == set(FLOAT_MODE.check_ids)
    return {finding.id.partition(".")[2]: finding for finding in found}


def test_this_machine_is_sound() -> None:
    """No number is lost, and sums round to the nearest."""
    observation = probe.observe("cpu")

    assert tripped(judged(observation).values()) == set()
    assert set(observation.lost.values()) == {0}
    assert len(observation.lost) == 5
    assert len(observation.rounds_right) == 4


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_trips_its_checks_alone(fault: Any) -> None:
    """In a process of its own."""
    assert tripped_by_fault("float_mode")[fault.name] == set(fault.trips)


@pytest.mark.parametrize(
    ("name", "check", "status"),
    [
        ("python float", "python_subnormals", "warn"),
        ("numpy float32", "numpy_subnormals", "warn"),
        ("numpy float64", "numpy_subnormals", "warn"),
        ("torch float32", "torch_subnormals", "warn"),
        ("torch float64", "torch_subnormals", "warn"),
    ],
)
def test_one_lost_number_is_told(name: str, check: str, status: str) -> None:
    """By the library that lost it, and as a warning: a job may want it."""
    sound = probe.observe("cpu")
    found = judged(sound.model_copy(update={"lost": {**sound.lost, name: 1}}))

    assert tripped(found.values()) == {f"float_mode.{check}"}
    assert found[check].status == status
    assert name in found[check].message


def test_a_wrong_direction_fails() -> None:
    """It changes every result."""
    sound = probe.observe("cpu")
    wrong = {**sound.rounds_right, "torch float32": False}

    assert judged(sound.model_copy(update={"rounds_right": wrong}))["rounding"].status == "fail"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_each_of_three_sums_decides(position: int) -> None:
    """A direction that only one of them shows is seen."""
    steps = probe._STEP_64
    right = [1.0, steps[2], -1.0]
    wrong = [*right]
    wrong[position] = np.nextafter(right[position], 9.0)

    class Sums:
        """Ones, with sums that are given."""

        def __add__(self, step: float) -> list[float]:
            at = 0 if step == steps[0] else 1
            return [wrong[at]]

        def __neg__(self) -> "Sums":
            return self

        def __sub__(self, _: float) -> list[float]:
            return [wrong[2]]

    assert not probe._nearest(Sums(), steps)


def test_a_thread_of_torch_that_flushes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last element of a large tensor counts as the first does."""
    original = torch.Tensor.__mul__

    def multiply(tensor: Any, other: Any) -> Any:
        result = original(tensor, other)
        result[-1] = 0
        return result

    monkeypatch.setattr(torch.Tensor, "__mul__", multiply)

    assert tripped(judged(probe.observe("cpu")).values()) == {"float_mode.torch_subnormals"}


MODES = {
    "a thread of torch that rounds up": (
        "lib.fesetround(0x800); torch.ones(1 << 20).mul(2); lib.fesetround(0)",
        {"float_mode.rounding"},
    ),
    "a thread of torch that flushes": (
        "flush = torch.set_flush_denormal; flush(True); torch.ones(1 << 20).mul(2); flush(False)",
        {"float_mode.torch_subnormals"},
    ),
    "a division by zero that ends the process": (
        "lib.feenableexcept(4)",
        {"float_mode.exceptions"},
    ),
    "an underflow that ends the process": (
        "lib.feenableexcept(16)",
        {"float_mode.exceptions"},
    ),
    "nothing": ("", set()),
}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="fenv.h's numbers are those of x86-64")
@pytest.mark.parametrize(("change", "trips"), MODES.values(), ids=MODES)
def test_modes_that_a_library_leaves(change: str, trips: set[str]) -> None:
    """In a process of its own, with two threads: the check that names it, and no signal."""
    program = f"""
import ctypes, torch
from probes.float_mode import probe
lib = ctypes.CDLL("libm.so.6")
torch.set_num_threads(2)
{change}
masks = lib.fegetexcept()
found = probe.judge(probe.observe("cpu"))
print(*(one.id for one in found if one.status != "pass"))
assert lib.fegetexcept() == masks
"""
    seen = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )

    assert (seen.returncode, set(seen.stdout.split())) == (0, trips), seen.stderr


def test_no_exception_is_unmasked_here() -> None:
    """And masking them leaves none behind."""
    with float_traps.masked():
        pass

    assert float_traps.unmasked() == ()
    sound = probe.observe("cpu")
    trapped = judged(sound.model_copy(update={"unmasked": ("overflow",)}))["exceptions"]
    assert (trapped.status, "overflow" in trapped.message) == ("fail", True)


def test_directions_are_known_here() -> None:
    """Of the processors that the tests run on."""
    assert {"up", "down", "to_zero"} == set(modes._DIRECTIONS["x86_64"])
