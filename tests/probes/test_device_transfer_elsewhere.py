"""device_transfer on devices that lack something, or differ from a CPU and an NVIDIA GPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from probes.contract import Comparison
from probes.device_transfer import dtypes, pinned, probe
from probes.device_transfer.pattern import numpy_pattern
from probes.device_transfer.places import Place, non_host_side

pytestmark = pytest.mark.slow

WORDS = 2**16


@pytest.fixture
def host() -> Place:
    """A pattern on the host."""
    array = numpy_pattern(WORDS)
    return Place(torch.device("cpu"), torch.from_numpy(array.copy()), array)


@pytest.fixture(autouse=True)
def dtypes_asked_again() -> Iterator[None]:
    """Clear the cache of what a device can hold, before and after each test."""
    dtypes._can_hold.cache_clear()
    yield
    dtypes._can_hold.cache_clear()


@pytest.mark.parametrize(
    ("device", "error", "skips"),
    [
        ("mps", NotImplementedError("no pinned memory"), True),
        ("xpu", RuntimeError("Backend doesn't support getPinnedMemoryAllocator()"), True),
        ("xpu", RuntimeError("Need to provide pin_memory allocator to use pin memory."), True),
        ("xpu", RuntimeError("any other text of any other version"), True),
        ("cuda:0", RuntimeError("CUDA error: out of memory"), False),
        ("cuda:0", NotImplementedError("not in this build"), False),
    ],
)
def test_pinning_is_skipped_only_where_there_may_be_none(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    error: Exception,
    skips: bool,  # noqa: FBT001
) -> None:
    """A back-end without an allocator for it is skipped; CUDA has one, and must pin."""

    def pin(_: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)

    assert bool(pinned.why_unavailable(device)) == skips


def gpu_observation(**changes: Any) -> probe.Observation:
    """An observation of pinned memory; the device's own pattern was right."""
    right = (Comparison(operation="pattern", elements=1),)
    return probe.Observation(
        device="cuda:0",
        comparisons={"device_pattern": right, "pinned_shares": right},
    ).model_copy(update=changes)


def pinned_shares_status(observation: probe.Observation) -> str:
    """The status of the check pinned_shares."""
    findings = {finding.id: finding.status for finding in probe.judge(observation)}
    return findings["device_transfer.pinned_shares"]


@pytest.mark.parametrize("called_pinned", [True, False])
def test_memory_that_is_not_called_pinned_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    host: Place,
    called_pinned: bool,  # noqa: FBT001
) -> None:
    """With confidential computing is_pinned() is False though every bit is right."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _self: called_pinned)
    notes: dict[str, str] = {}

    comparisons = tuple(pinned.shares(host, host, notes))

    assert all(comparison.holds for comparison in comparisons)
    observation = gpu_observation(notes=notes)
    assert pinned_shares_status(observation) == ("pass" if called_pinned else "warn")


def test_wrong_bits_of_pinned_memory_fail_whatever_it_is_called() -> None:
    """A note does not change a failure."""
    wrong = (Comparison(operation="write, then copy", elements=4, mismatches=1),)
    right = gpu_observation().comparisons
    observation = gpu_observation(
        comparisons={**right, "pinned_shares": wrong}, notes={"pinned_shares": "odd"}
    )

    assert pinned_shares_status(observation) == "fail"


def test_an_array_that_is_another_memory_is_seen(
    monkeypatch: pytest.MonkeyPatch, host: Place
) -> None:
    """`.numpy()` of pinned memory must be that memory."""
    share = torch.Tensor.numpy
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    monkeypatch.setattr(torch.Tensor, "numpy", lambda self: np.array(share(self)))

    assert not all(comparison.holds for comparison in pinned.shares(host, host, {}))


def test_a_device_that_holds_float64_and_does_not_compute_with_it(
    monkeypatch: pytest.MonkeyPatch, host: Place
) -> None:
    """As Intel's Arc and Flex: copies are compared, conversions that compute are not."""
    monkeypatch.setattr(dtypes, "has_dtype", lambda _device, dtype: dtype != torch.float64)

    copied = {comparison.operation for comparison in dtypes.dtypes(host, host)}
    converted = {comparison.operation for comparison in dtypes.converts(host, host)}

    assert "float64" in copied
    assert converted
    assert not [name for name in converted if "float64" in name]


@pytest.mark.parametrize(
    ("text", "can_hold"),
    [
        (
            "Cannot convert to float64: the MPS framework doesn't support it",
            False,
        ),
        ("XPU error: an illegal memory access was encountered", True),
    ],
)
def test_a_type_that_is_absent_and_one_that_fails(
    monkeypatch: pytest.MonkeyPatch,
    host: Place,
    text: str,
    can_hold: bool,  # noqa: FBT001
) -> None:
    """A type is missing only where the back-end says so; other errors are for the checks."""
    move = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        if args == ("xpu:0",):
            if self.dtype == torch.float64:
                raise TypeError(text)
            return self
        return move(self, *args, **named)

    monkeypatch.setattr(torch.Tensor, "to", to)
    there = Place(torch.device("xpu:0"), host.words, host.words)

    names = dtypes.dtypes_of(there)

    assert "float32" in names
    assert ("float64" in names) == can_hold


def test_the_side_that_is_no_host_is_the_one_that_may_lack() -> None:
    """In both directions the side is the same; between two hosts it is the host."""
    words = torch.zeros(1, dtype=torch.int32)
    here = Place(torch.device("cpu"), words, words)
    there = Place(torch.device("xpu:0"), words, words)

    assert [non_host_side(*pair) for pair in ((here, there), (there, here), (here, here))] == [
        "xpu:0",
        "xpu:0",
        "cpu",
    ]
