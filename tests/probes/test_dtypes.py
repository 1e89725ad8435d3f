"""The probe `dtypes`: this image passes, and wrong kernels of one type trip their checks."""

import math
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, Final

import numpy as np
import pytest
import torch

from probes.catalog import DTYPES
from probes.dtypes import draws, functions, gradients, probe, products
from probes.kit.case import plain
from probes.kit.gradients import recording
from probes.kit.precision import Precision
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
from tests.probes.verdicts import PLANTED, ids, tripped, tripped_alone


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
    families = {**sound().families, check: PLANTED}
    tripped_alone(probe.judge(sound().model_copy(update={"families": families})), f"dtypes.{check}")


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
    ("bmm", of(torch.complex64)(larger), "products"),
    ("mean", of(torch.complex64)(larger), "reductions"),
    ("bernoulli_", of(torch.bool)(zeros), "draws"),
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
    ("unfold_backward", _bfloat16(larger), "gradients"),
    ("index_fill", _half(shifted), "gradients"),
]


@corrupted_operators(BACKWARD)
def test_corrupted_backward(operator: str, fault: Fault, families: str) -> None:
    """In the threads of the engine too: the backward runs in this one here."""
    torch.autograd.set_multithreading_enabled(False)
    try:
        assert_trips(probe, operator, fault, families)
    finally:
        torch.autograd.set_multithreading_enabled(True)


def without_option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function that ignores an option."""

    def of_function(original: Callable[..., Any]) -> Callable[..., Any]:
        def ignoring(*args: Any, **options: Any) -> Any:
            options.pop(name, None)
            return original(*args, **options)

        return ignoring

    return of_function


def truncating(original: Callable[..., Any]) -> Callable[..., Any]:
    """A quotient that is rounded to zero, whatever was asked for."""

    def divide(*args: Any, **options: Any) -> Any:
        if options.get("rounding_mode") == "floor":
            options["rounding_mode"] = "trunc"
        return original(*args, **options)

    return divide


def of_the_largest(original: Callable[..., Any]) -> Callable[..., Any]:
    """A selection of the largest, whatever was asked for."""

    def topk(x: Any, count: int, axis: int, *_: Any, **options: Any) -> Any:
        return original(x, count, axis, **options)

    return topk


def overwriting(original: Callable[..., Any]) -> Callable[..., Any]:
    """A write by index that does not add."""
    return lambda x, places, values, *_: original(x, places, values)


def inverted(original: Callable[..., Any]) -> Callable[..., Any]:
    """A draw of the opposite."""
    return lambda *args, **options: 1 - original(*args, **options)


#: (below torch, what it does instead, family that must trip)
MEANINGS: Final[list[tuple[str, Callable[[Any], Any], str]]] = [
    ("sub", without_option("alpha"), "arithmetic"),
    ("div", truncating, "arithmetic"),
    ("topk", of_the_largest, "reductions"),
    ("Tensor.index_add_", without_option("alpha"), "reductions"),
    ("Tensor.index_put_", overwriting, "reductions"),
    ("bernoulli", inverted, "draws"),
]


@pytest.mark.parametrize(("name", "instead", "family"), MEANINGS, ids=[row[0] for row in MEANINGS])
def test_another_meaning(
    monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[[Any], Any], family: str
) -> None:
    """An option that is ignored, and numbers of another share."""
    monkeypatch.setattr(f"torch.{name}", instead(attrgetter(name)(torch)))

    assert tripped_families(probe, family) == {family}


def gradient_times(
    factor: float, *dtypes: torch.dtype
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function whose gradients are wrong by a factor, in these types."""

    def of_function(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            found = original(*args, **options)
            first = found[0] if isinstance(found, tuple) else found
            if first.grad_fn is not None and first.dtype in dtypes:
                first.grad_fn.register_hook(
                    lambda gradients, _: tuple(g if g is None else factor * g for g in gradients)
                )
            return found

        return call

    return of_function


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "name",
    [
        *(f"Tensor.{name}" for name in ("scatter", "masked_scatter", "index_copy", "index_fill")),
        *(f"Tensor.{name}" for name in ("masked_select", "take", "repeat_interleave", "triu")),
        *(f"Tensor.{name}" for name in ("unfold", "amax", "amin", "min", "rsqrt", "reciprocal")),
        *(f"Tensor.{name}" for name in ("sin", "cos", "log1p", "expm1", "erf")),
        *(f"Tensor.{name}" for name in ("var", "std", "logsumexp", "prod")),
        *("maximum", "minimum", "addcmul", "addcdiv", "lerp"),
    ],
)
def test_a_backward_that_is_wrong_in_a_half_type(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype
) -> None:
    """By 5 %, in one type alone."""
    monkeypatch.setattr(f"torch.{name}", gradient_times(1.05, dtype)(attrgetter(name)(torch)))

    assert wrong_gradients(name) == {name.removeprefix("Tensor.")}


def wrong_gradients(name: str) -> set[str]:
    """The operations of that name of which the output or gradients are wrong in some type."""
    operation = name.removeprefix("Tensor.")
    trials = [
        each
        for each in gradients.gradients("cpu")
        if each.operation.removeprefix("Tensor.") == operation
    ]
    with recording():
        found, _ = run_trials(trials, "cpu")
    return {each.name.removeprefix("Tensor.") for each in found if not each.holds}


# ---- what other back-ends promise


@pytest.mark.parametrize(("units", "trips"), [(3, False), (2**17, True)])
def test_powers_need_not_be_exact(
    monkeypatch: pytest.MonkeyPatch, units: int, *, trips: bool
) -> None:
    """CUDA documents a few units of float32 for the power of a number, of integers as well."""
    right = torch.pow

    def powers(x: torch.Tensor, exponent: Any, **options: Any) -> Any:
        found = right(x, exponent, **options)
        if isinstance(exponent, torch.Tensor) and x.dtype == torch.float32:
            found.mul_(1 + units * 2.0**-23)
        return found

    monkeypatch.setattr(torch, "pow", powers)

    assert tripped_families(probe, "arithmetic") == ({"arithmetic"} if trips else set())


@pytest.mark.parametrize(("forced_by", "trips"), [("", True), ("NVIDIA_TF32_OVERRIDE=1", False)])
def test_a_variable_may_shorten_the_products_of_distances(
    monkeypatch: pytest.MonkeyPatch, forced_by: str, *, trips: bool
) -> None:
    """Operands of 11 bits in the backward of cdist are no fault where a variable asks for them."""
    forced = Precision(forced_by=forced_by)
    monkeypatch.setattr(gradients, "read", lambda _device: forced)
    short = gradient_times(1 + 2.0**-10, torch.float32)
    monkeypatch.setattr(torch, "cdist", short(torch.cdist))

    assert wrong_gradients("cdist") == ({"cdist"} if trips else set())


@pytest.mark.parametrize(
    ("check", "status"),
    [("arithmetic", "warn"), ("in_place", "warn"), ("gradients", "warn"), ("moving", "fail")],
)
def test_metal_rounds_otherwise(check: str, status: str) -> None:
    """Quotients, roots and powers are off there; bits that are moved are not."""
    families = {**sound().families, check: PLANTED}
    on_metal = sound().model_copy(update={"families": families, "back_end": "mps"})

    found = {each.id: each.status for each in probe.judge(on_metal)}

    assert found.pop(f"dtypes.{check}") == status
    assert set(found.values()) == {"pass"}


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


@pytest.mark.skipif(
    not hasattr(torch.nn.functional, "grouped_mm"), reason="torch has no grouped_mm before 2.10"
)
@pytest.mark.parametrize(("version", "left_out"), [("2.11.0", True), ("2.12.0", False)])
def test_products_by_groups_on_rocm(
    monkeypatch: pytest.MonkeyPatch, version: str, *, left_out: bool
) -> None:
    """Before torch 2.12 the gradient of an empty group was not written there."""
    monkeypatch.setattr(products, "back_end", lambda _device: "hip")
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
