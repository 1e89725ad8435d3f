"""What a case costs beside the operation, counted in calls: a quick check makes thousands."""

from typing import Any

import numpy as np
import pytest
import torch

from probes.kit import case as case_module
from probes.kit.case import Case, in_dtype, plain
from probes.kit.operands import fractions
from probes.kit.references import compare

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_operands_are_not_looked_through_where_the_device_has_every_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a case is in float64 matters to a device that lacks it."""
    asked: list[str] = []

    def is_wide(_: Case) -> bool:
        asked.append("asked")
        return True

    monkeypatch.setattr(Case, "is_wide", is_wide)
    found = list(plain("add", (A, A), A + A).run("cpu"))
    assert len(found) == 2
    assert all(each.holds for each in found)
    assert asked == []

    monkeypatch.setattr(case_module, "has_dtype", lambda *_: False)
    assert list(plain("add", (A, A), A + A).run("cpu")) == []
    assert asked == ["asked"]


def test_numpy_names_a_type_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It puts the name together at each call."""
    made: list[Any] = []
    original = str

    def count(value: Any) -> str:
        made.append(value)
        return original(value)

    case_module._name.cache_clear()
    monkeypatch.setattr(case_module, "str", count, raising=False)
    labels = [each.operation for _ in range(3) for each in plain("neg", (A,), -A).run("cpu")]

    assert len(labels) == 6
    assert all(label.startswith("neg (float32, ") for label in labels)
    assert made == [np.dtype(np.float32)]


def test_a_label_has_the_type_of_torch_where_it_is_another() -> None:
    """NumPy has no bfloat16."""
    labels = [
        each.operation for each in in_dtype(plain("neg", (A,), -A), torch.bfloat16).run("cpu")
    ]

    assert {label for label in labels if "bfloat16" in label} == set(labels)


def test_an_output_is_read_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detached, on the host and with its bits of conjugation and sign resolved."""

    def other_call(*_: Any) -> None:
        raise AssertionError("read in several calls")

    for name in ("detach", "cpu", "resolve_conj", "resolve_neg"):
        monkeypatch.setattr(torch.Tensor, name, other_call)
    values = torch.tensor([1 + 2j, 3 - 4j], requires_grad=True)

    assert compare("conj", values.conj(), np.array([1 - 2j, 3 + 4j], np.complex64)).holds
    assert compare("imag", values.conj().imag, np.array([-2, 4], np.float32)).holds
    assert not compare("imag", values.conj().imag, np.array([2, 4], np.float32)).holds


def test_fractions_are_made_once_and_cannot_be_changed() -> None:
    """All callers share them."""
    first = fractions((5, 3), 7)

    assert fractions((5, 3), 7) is first
    assert not first.flags.writeable
    assert not (fractions((5, 3), 8) == first).any()
