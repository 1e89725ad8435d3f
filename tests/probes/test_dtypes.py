"""The probe `dtypes`: this image passes, and wrong kernels of one type trip their checks."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import DTYPES
from probes.contract import Comparison
from probes.dtypes import draws, functions, probe, products
from probes.kit.case import plain
from probes.kit.trial import run_trials
from probes.kit.typed import values
from tests.probes.corrupt import (
    Fault,
    assert_trips,
    corrupted_operators,
    flipped,
    last,
    lowest_bit,
    shifted,
    swapped,
    tripped_families,
    zeros,
)
from tests.probes.verdicts import ids, tripped


@cache
def sound() -> probe.Observation:
    """The observation of this machine's CPU, cached."""
    return probe.observe("cpu")


def of(*dtypes: torch.dtype) -> Callable[[Fault], Fault]:
    """A fault in results of these types alone."""

    def narrow(fault: Fault) -> Fault:
        def spoil(out: torch.Tensor) -> None:
            if out.dtype in dtypes:
                fault(out)

        names = "_".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        spoil.__name__ = f"{getattr(fault, '__name__', '')}_{names}"
        return spoil

    return narrow


def larger(out: torch.Tensor) -> None:
    """Make numbers 5 % larger."""
    if out.is_floating_point() or out.is_complex():
        out.mul_(1.05)


def another(out: torch.Tensor) -> None:
    """Add one to the last element."""
    last(out).add_(1)


def larger_of_two(out: torch.Tensor) -> None:
    """Take the larger of two neighbours: another distribution."""
    out.copy_(torch.maximum(out, out.roll(1)))


def test_this_image_is_sound() -> None:
    """Nothing trips on the CPU, every check is made, and nothing is left out."""
    findings = list(probe.judge(sound()))

    assert tripped(findings) == set()
    assert ids(findings) == set(DTYPES.check_ids)
    assert {each.status for each in findings} == {"pass"}
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9):
        assert sound().lacking == {}


@pytest.mark.parametrize("check", DTYPES.checks)
def test_a_fault_trips_its_check_alone(check: str) -> None:
    """One wrong element in a family trips its check only, and the operation is named."""
    wrong = (Comparison(operation="planted", elements=9, mismatches=1),)
    families = {**sound().families, check: wrong}
    findings = list(probe.judge(sound().model_copy(update={"families": families})))

    assert tripped(findings) == {f"dtypes.{check}"}
    (failed,) = [each for each in findings if each.status == "fail"]
    assert "planted" in failed.message


def test_nothing_compared_is_no_pass() -> None:
    """A family that compared nothing, and is not absent, fails."""
    families = {**sound().families, "moving": ()}

    found = probe.judge(sound().model_copy(update={"families": families}))

    assert tripped(found) == {"dtypes.moving"}


_half, _bfloat16 = of(torch.float16), of(torch.bfloat16)

#: (operator, fault, family that must trip)
OPERATORS: Final[list[tuple[str, Fault, str]]] = [
    ("lt", flipped, "comparisons"),
    ("isin", flipped, "comparisons"),
    ("searchsorted", another, "comparisons"),
    ("clamp", of(torch.int16)(another), "comparisons"),
    ("sgn", _bfloat16(larger), "comparisons"),
    ("where", of(torch.bool)(flipped), "comparisons"),
    ("mul", of(torch.int8)(another), "arithmetic"),
    ("fmod", _half(swapped), "arithmetic"),
    ("addcdiv", _bfloat16(larger), "arithmetic"),
    ("div", of(torch.complex64)(larger), "arithmetic"),
    ("abs_", of(torch.int32)(another), "in_place"),
    ("sqrt_", of(torch.float64)(zeros), "in_place"),
    ("clamp_min_", _half(another), "in_place"),
    ("logical_and", flipped, "logic"),
    ("bitwise_xor_", of(torch.uint8)(lowest_bit), "logic"),
    ("gather", of(torch.bool)(flipped), "moving"),
    ("tril", of(torch.complex128)(shifted), "moving"),
    ("cat", of(torch.uint8)(swapped), "moving"),
    ("index_put_", of(torch.int16)(another), "moving"),
    ("masked_scatter", _bfloat16(shifted), "moving"),
    ("full_like", of(torch.int64)(another), "creation"),
    ("arange", of(torch.float64)(larger), "creation"),
    ("new_zeros", of(torch.complex64)(another), "creation"),
    ("cumsum", of(torch.int64)(another), "reductions"),
    ("argmin", another, "reductions"),
    ("scatter_add", _half(larger), "reductions"),
    ("aminmax", of(torch.int8)(another), "reductions"),
    ("dot", _bfloat16(larger), "products"),
    ("addmm", of(torch.float64)(swapped), "products"),
    ("lgamma", _half(larger), "functions"),
    ("erfinv_", larger, "functions"),
    ("exp", of(torch.float32)(larger), "functions"),
    ("hann_window", larger, "functions"),
    ("bernoulli_", _half(larger), "draws"),
    ("rand_like", _bfloat16(larger_of_two), "draws"),
    ("_standard_gamma", larger, "draws"),
    ("randint", of(torch.int16)(larger_of_two), "draws"),
]


@corrupted_operators(OPERATORS)
def test_corrupted_operator(operator: str, fault: Fault, families: str) -> None:
    """A kernel that is wrong, most of them in one type, trips the check of its family."""
    assert_trips(probe, operator, fault, families)


#: Operators that a backward calls.
BACKWARD: Final[list[tuple[str, Fault, str]]] = [
    ("slice_backward", _half(larger), "gradients"),
    ("select_backward", _bfloat16(shifted), "gradients"),
    ("index_put_", _half(larger), "gradients"),
    ("_fft_c2c", larger, "gradients"),
    ("cumsum", of(torch.float64)(another), "gradients"),
]


@corrupted_operators(BACKWARD)
def test_corrupted_backward(operator: str, fault: Fault, families: str) -> None:
    """In the threads of the engine too: the backward runs in this one here."""
    torch.autograd.set_multithreading_enabled(False)
    try:
        assert_trips(probe, operator, fault, families)
    finally:
        torch.autograd.set_multithreading_enabled(True)


# ---- references


def test_the_digamma_function() -> None:
    """At points of which it has closed forms (DLMF 5.4.14 and 5.4.15)."""
    gamma = 0.577215664901532860606512090082

    assert functions.digamma(1, 1) == pytest.approx(-gamma, abs=1e-14)
    assert functions.digamma(2, 1) == pytest.approx(1 - gamma, abs=1e-14)
    assert functions.digamma(1, 2) == pytest.approx(-gamma - 2 * math.log(2), abs=1e-14)
    assert functions.digamma(1, 4) == pytest.approx(
        -gamma - math.pi / 2 - 3 * math.log(2), abs=1e-14
    )


def test_every_value_fits_its_type() -> None:
    """What a table computes with is exact: no operand is rounded, and none wraps."""
    for dtype in values.ALL:
        drawn = values.Values(dtype)((5, 13), 1, -99, 99)
        on_device = torch.from_numpy(drawn.copy()).to(dtype)
        again = on_device.float().numpy() if dtype == torch.bfloat16 else on_device.numpy()
        assert np.array_equal(again, drawn)
        assert len(np.unique(drawn)) > 1


# ---- what a device lacks


def refusing(text: str) -> Callable[..., Any]:
    """A function that torch has no kernel of."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    return refuse


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("\"isin_cuda\" not implemented for 'Short'", True),
        ("\"isin_cuda\" not implemented for 'Long'", False),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_a_missing_kernel_is_left_out(
    monkeypatch: pytest.MonkeyPatch, text: str, *, left_out: bool
) -> None:
    """Of the type that was asked for: another one, and any other error, is a failure."""
    monkeypatch.setattr(torch, "isin", refusing(text))

    def table(v: values.Values) -> Any:
        yield plain("isin", (v((3,), 1), v((2,), 2)), np.zeros(3, bool))

    found, lacking = run_trials(values.tried(((table, (torch.int16,)),), "cpu"), "cpu")

    assert bool(lacking) == left_out
    assert [each.holds for each in found] == ([] if left_out else [False])


@pytest.mark.skipif(
    not hasattr(torch.nn.functional, "grouped_mm"), reason="torch has no grouped_mm before 2.10"
)
@pytest.mark.parametrize(
    ("compute", "version", "left_out"),
    [((9, 0), "2.10.0", False), ((10, 0), "2.10.0", True), ((12, 0), "2.13.0", False)],
)
def test_products_by_groups_without_a_kernel_of_their_own(
    monkeypatch: pytest.MonkeyPatch, compute: tuple[int, int], version: str, *, left_out: bool
) -> None:
    """On architectures for which torch before 2.13 has none a launch would end the process."""
    monkeypatch.setattr(products, "capability", lambda _device: compute)
    monkeypatch.setattr(torch, "__version__", version)
    _, lacking = run_trials(products.products("cpu"), "cpu")

    assert bool(lacking) == left_out


# ---- what is restored, and draws


def test_the_random_state_is_kept() -> None:
    """Draws of the default generator are not the user's."""
    torch.manual_seed(7)
    right = torch.rand(3)
    torch.manual_seed(7)
    probe.observe("cpu")

    assert torch.equal(torch.rand(3), right)


@pytest.mark.parametrize("seed", range(20))
def test_draws_of_other_seeds_are_right(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Not for the one seed only: no version of a generator is expected."""
    monkeypatch.setattr(draws, "SEED", 1000 + seed)

    assert tripped_families(probe, "draws") == set()


def test_inference_mode_of_the_user_does_not_matter() -> None:
    """Gradients are asked for there too."""
    with torch.inference_mode():
        assert tripped(probe.judge(probe.observe("cpu"))) == set()
