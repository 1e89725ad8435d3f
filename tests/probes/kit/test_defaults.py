"""A probe observes with torch's own defaults; changed ones are reported and restored."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from probes.kit import defaults

_entered = ExitStack()  # contexts entered by a test, closed after it


def autocast_on() -> bool:
    """Whether autocast makes products on the CPU bfloat16."""
    product = torch.ones(2, 2) @ torch.ones(2, 2)
    return product.dtype == torch.bfloat16


#: Call -> (change the default, read it, its changed value, its original value).
CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object], object, object]] = {
    "torch.get_default_dtype()": (
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.tensor([1.0]).dtype,
        torch.float64,
        torch.float32,
    ),
    "torch.get_default_device()": (
        lambda: torch.set_default_device("meta"),
        lambda: torch.zeros(1).device.type,
        "meta",
        "cpu",
    ),
    "torch.are_deterministic_algorithms_enabled()": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.get_deterministic_debug_mode,
        2,
        0,
    ),
    "torch.is_anomaly_enabled()": (
        lambda: torch.autograd.set_detect_anomaly(True),
        torch.is_anomaly_enabled,
        True,
        False,
    ),
    "torch.is_autocast_enabled('cpu')": (
        lambda: _entered.enter_context(torch.autocast("cpu")),
        autocast_on,
        True,
        False,
    ),
}


@pytest.fixture(autouse=True)
def restore_defaults() -> Iterator[None]:
    """Restore torch's own defaults after each test."""
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    _entered.close()


def test_unchanged_defaults() -> None:
    """Nothing is reported, inside and outside of `pinned`."""
    assert defaults.changed() == {}
    with defaults.pinned():
        assert defaults.changed() == {}


@pytest.mark.parametrize("call", CHANGES)
def test_a_changed_default_is_pinned_reported_and_restored(call: str) -> None:
    """Inside `pinned` it is torch's own, and still reported; afterwards it is restored."""
    change, read, changed, original = CHANGES[call]
    change()
    assert read() == changed

    with defaults.pinned():
        assert read() == original
        assert set(defaults.changed()) == {call}
        with defaults.pinned():  # a retry within a try
            assert read() == original
            assert set(defaults.changed()) == {call}

    assert read() == changed
    assert set(defaults.changed()) == {call}


def test_all_at_once_and_a_probe_that_raises() -> None:
    """All are restored, also after an error."""
    for name, (change, *_) in CHANGES.items():
        if name != "torch.get_default_device()":  # on meta, autocast cannot be seen
            change()
    before = defaults.changed()
    assert len(before) == len(CHANGES) - 1

    with pytest.raises(TypeError, match="int"), defaults.pinned():
        torch.tensor([1.0]).view("int")  # type: ignore[arg-type] # raises

    assert defaults.changed() == before


def test_warn_only_is_restored() -> None:
    """Determinism that only warns is restored as such."""
    torch.use_deterministic_algorithms(True, warn_only=True)

    assert list(defaults.changed().values()) == ["True, to warn only"]
    with defaults.pinned():
        assert not torch.are_deterministic_algorithms_enabled()

    assert torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize(("kind", "on"), [("cpu", True), ("cuda", False), ("mps", False)])
def test_older_torch_takes_no_device_type(
    kind: str, *, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before torch 2.4 there was one function for the CPU and one for CUDA."""

    def old(*given: Any) -> bool:
        if given:
            raise TypeError("is_autocast_enabled() takes no arguments (1 given)")
        return False

    monkeypatch.setattr(torch, "is_autocast_enabled", old)
    monkeypatch.setattr(torch, "is_autocast_cpu_enabled", lambda: True)

    assert defaults._autocast(kind) is on
