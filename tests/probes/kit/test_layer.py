"""Trials of layers: what is compared bit by bit, what within a bound, and what is left out."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from probes.contract import Comparison
from probes.kit import layer
from probes.kit.layer import Layer, compared, linear, mapped, pointwise
from probes.kit.operands import coarse, odd
from probes.kit.rounding import Rounded, exact
from probes.kit.trial import Custom, run_trials

UNIT, HALF = 2.0**-24, 2.0**-8
X = odd((2, 3, 4, 5), 1)


def double(values: Any) -> Any:
    """Twice the values: a linear map of any axes."""
    return 2 * values


def trial_of(call: Callable[..., torch.Tensor], **fields: Any) -> list[Comparison]:
    """The wrong comparisons of a layer that should double."""
    each = Layer("double", call, (X,), linear(double, 2), **fields)
    found, _ = run_trials(layer.trials([each], "cpu"), "cpu")
    return [one for one in found if not one.holds]


def test_a_right_layer_holds() -> None:
    """In each type and memory format, forward and backward."""
    assert trial_of(lambda x: x * 2, channels_last=True) == []


class _Wrong(torch.autograd.Function):
    """Doubles; the backward is 5 % off."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(_ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
        return 2.1 * upstream[0]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: x * 2.1, "double (float32)"),
        (lambda x: (x * 2).double(), "float64 where torch.float32 is right"),
        (lambda x: (x * 2)[:1], "shape"),
        (lambda x: _Wrong.apply(x), "gradient 0"),
        (lambda x: x * 2 if x.is_contiguous() else x.contiguous() * 3, "channels_last"),
    ],
)
def test_a_wrong_layer_is_told(call: Callable[..., torch.Tensor], text: str) -> None:
    """Values, type, shape, gradients, or one memory format alone."""
    (wrong,) = trial_of(call, channels_last=True)

    assert text in wrong.describe()


def test_only_the_types_of_the_layer_are_tried() -> None:
    """And those that the device has."""
    seen: list[torch.dtype] = []

    def call(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.dtype)
        return x * 2

    assert trial_of(call, dtypes=layer.SINGLES) == []
    assert seen == [torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("text", "dtypes", "lacks"),
    [
        ("\"x\" not implemented for 'BFloat16'", (torch.bfloat16,), True),
        ("\"x\" not implemented for 'Half'", (torch.float16,), True),
        ("\"x\" not implemented for 'Float'", (torch.float32,), False),
        ("CUDA error: misaligned address", (torch.bfloat16,), False),
    ],
)
def test_a_half_type_without_a_kernel_is_left_out(
    text: str, dtypes: tuple[torch.dtype, ...], lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any device; another error is a failure."""
    monkeypatch.setattr("probes.kit.capabilities.back_end", lambda _device: "cuda")
    monkeypatch.setattr("probes.kit.capabilities.capability", lambda _device: (9, 0))

    def call(_x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(text)

    each = Layer("double", call, (X,), linear(double, 2), dtypes=dtypes)
    found, lacking = run_trials(layer.trials([each], "cpu"), "cpu")

    assert (len(found), len(lacking)) == ((0, 1) if lacks else (1, 0))


def test_a_plain_trial_of_a_half_type_may_not_lack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it says so."""
    monkeypatch.setattr("probes.kit.capabilities.back_end", lambda _device: "cuda")

    def body(_device: str) -> Iterator[Comparison]:
        raise RuntimeError("\"mm\" not implemented for 'Half'")

    found, lacking = run_trials([Custom("mm", body, torch.float16)], "cpu")

    assert (len(found), lacking) == (1, ())


def test_sums_of_small_integers_have_no_error() -> None:
    """Larger sums, other weights, or operands with an error do."""
    ones, thirds = np.ones((4, 1)), np.full((4, 1), 1 / 3)
    small, large = (exact(np.full((2, 4), value), UNIT, HALF) for value in (3.0, 200.0))
    inexact = Rounded(small.value, np.full((2, 4), 1e-3), UNIT, HALF)

    assert not mapped(small, ones, in_halves=True).error.any()
    assert mapped(large, ones, in_halves=True).error.any()
    assert mapped(small, thirds).error.any()
    assert mapped(small, ones, 8.0).error.any()
    assert mapped(inexact, ones).error.min() >= 4e-3
    quarter = mapped(exact(np.array([[0.25, 0.5, 0.75, 3.0]]), UNIT), ones)
    assert (quarter.value.item(), quarter.error.item()) == (4.5, 0)


def test_an_affine_map_keeps_its_constant() -> None:
    """Which has no gradient."""
    output, backward = linear(lambda values: 2 * values + 1, 1)(exact(np.array([3.0, 5.0]), UNIT))

    assert output.value.tolist() == [7, 11]
    assert backward(exact(np.ones(2), UNIT))[0].value.tolist() == [2, 2]


def test_the_mean_of_a_half_type_sees_what_elements_may_hide() -> None:
    """Each element within its bound, all of them 2 % too large."""
    value = coarse((8, 8), 0.5, 2, 5)
    right = Rounded(value, 0.05 * value, UNIT, HALF)
    found = torch.from_numpy(1.04 * value).to(torch.bfloat16)
    element, mean = compared("x (y)", found, right, torch.bfloat16)

    assert (element.holds, mean.holds) == (True, False)
    assert mean.operation == "x (y, mean)"
    assert len(list(compared("x (y)", found.float(), right, torch.float32))) == 1


def test_a_slope_by_the_result_has_the_error_of_its_storage() -> None:
    """In a half type alone."""
    reference = pointwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2, by_result=lambda y: 2 * y)
    x, g = np.array([3.0]), np.array([1.0])
    plain, half = (
        reference(exact(x, UNIT, storage))[1](exact(g, UNIT, storage))[0].error.item()
        for storage in (0.0, HALF)
    )

    assert plain < 1e-4
    assert half == pytest.approx(plain + 2 * HALF * np.tanh(3.0) ** 2)
