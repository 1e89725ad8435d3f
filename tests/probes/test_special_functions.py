"""The probe `special_functions`: this image passes, and faults trip their checks."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from probes.catalog import SPECIAL_FUNCTIONS
from probes.contract import Comparison
from probes.kit.case import Case
from probes.special_functions import functions, probe
from tests.probes.corrupt import (
    Fault,
    assert_trips,
    corrupted_operators,
    lowest_bit,
    nan,
    slightly_larger,
    slightly_smaller,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import ids, tripped, tripped_alone


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def spoiled(check: str, **fields: Any) -> probe.Observation:
    """A sound observation with one wrong operation in a family, of another device if given."""
    wrong = Comparison(operation="planted", elements=9, mismatches=1)
    families = {**sound().families, check: (*sound().families[check], wrong)}
    return sound().model_copy(update={"families": families, **fields})


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, and every check is made."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(SPECIAL_FUNCTIONS.check_ids)
    assert {each.status for each in findings} == {"pass"}


@pytest.mark.parametrize("check", SPECIAL_FUNCTIONS.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """The operation is named, and the hint begins with the cache of compiled kernels."""
    failed = tripped_alone(probe.judge(spoiled(check)), f"special_functions.{check}")
    assert failed.hint.startswith("clear the cache of compiled kernels")


@pytest.mark.parametrize(
    ("check", "status"),
    [("functions", "warn"), ("limits", "warn"), ("divisors", "fail"), ("complex_numbers", "fail")],
)
def test_metal_rounds_functions_otherwise(check: str, status: str) -> None:
    """Exact integers are exact there too."""
    findings = probe.judge(spoiled(check, device="mps", back_end="mps"))

    assert [each.status for each in findings if each.id.endswith(check)] == [status]


def test_a_family_that_a_back_end_lacks_is_skipped() -> None:
    """With the back-end's own text."""
    families = {name: each for name, each in sound().families.items() if name != "divisors"}
    lacking = {
        "families": families,
        "not_implemented": ("divisors",),
        "lacking": {"divisors": ("gcd: no such operator",)},
    }
    found = {each.id: each for each in probe.judge(sound().model_copy(update=lacking))}

    assert found["special_functions.divisors"].status == "skip"
    assert found["special_functions.divisors"].message.endswith("no such operator")


#: (operator, fault, family that must trip)
OPERATORS: list[tuple[str, Fault, str]] = [
    ("gcd", lowest_bit, "divisors"),
    ("lcm", zeros, "divisors"),
    ("exp2", slightly_smaller, "functions"),
    ("erfc", slightly_larger, "functions"),
    ("lgamma", slightly_larger, "functions"),
    ("exp2", nan, "limits"),
    ("_fft_c2c", slightly_larger, "complex_numbers"),
    ("angle", slightly_smaller, "complex_numbers"),
    ("abs", slightly_larger, "complex_numbers"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A wrong kernel trips the checks of its families, without an error."""
    assert_trips(probe, operator, fault, families)


def test_a_conjugate_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lazy conjugate is a call, not a kernel."""
    monkeypatch.setattr(torch, "conj", lambda x: x)

    assert tripped_families(probe, "complex_numbers") == {"complex_numbers"}


def test_rocm_has_its_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """AMD's OCML guide allows erfc 16 ulp, CUDA 7 in float32."""

    def allowed() -> float:
        (case,) = [
            each
            for each in functions.functions("cuda:0")
            if isinstance(each, Case)
            and each.operation == "erfc"
            and each.expected[0].dtype == np.float32
            and not each.once
        ]
        assert case.allowed is not None
        steps = np.spacing(np.abs(case.expected[0])).astype(np.float64)
        return float(np.min(case.allowed / steps))

    on_cuda = allowed()
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")

    assert on_cuda == pytest.approx(7.5)
    assert allowed() == pytest.approx(16.5)
