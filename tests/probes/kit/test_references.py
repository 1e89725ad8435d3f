"""The comparison that all probes use finds every difference; its bounds hold and are tight."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from probes.kit.references import UNIT_ROUNDOFF, compare, dot_bound

FLOATS = ("float16", "float32", "float64")
NAN, INF = float("nan"), float("inf")


def array(values: Any, dtype: str = "float32") -> npt.NDArray[Any]:
    """A reference."""
    return np.array(values, dtype=dtype)


# ---- bits


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "int16", "int32", "int64", *FLOATS, "complex64", "complex128"],
)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (3, 4), (300, 231)])
def test_equal_bits_hold_in_every_dtype_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    """Equal values are right, also empty and 0-d, as tensor and as array."""
    expected = (np.arange(np.prod(shape, dtype=int)) % 99).reshape(shape).astype(dtype)
    tensor = torch.tensor(expected.tolist(), dtype=getattr(torch, dtype)).reshape(shape)

    for observed in (tensor, expected.copy()):
        comparison = compare("op", observed, expected)
        assert comparison.holds, comparison.describe()
        assert comparison.elements == expected.size


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", *FLOATS])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_bit_in_one_element_is_named(dtype: str, bit: int) -> None:
    """Count, index and mask of a single flipped bit."""
    expected = np.ones((3, 4), dtype=dtype)
    observed = expected.copy()
    word = np.dtype(f"u{observed.itemsize}").type
    observed.view(word)[1, 2] ^= word(1 << bit)
    comparison = compare("op", observed, expected)

    assert (comparison.mismatches, comparison.elements) == (1, 12)
    assert comparison.first_index == comparison.worst_index == (1, 2)
    assert comparison.xor_mask is not None
    assert int(comparison.xor_mask, 16) == 1 << bit
    assert len(comparison.xor_mask) == 2 + 2 * observed.itemsize


@pytest.mark.parametrize("shape", [(1 << 16,), (300, 231), (3, 87382)])
def test_one_bit_in_a_large_array_is_named(shape: tuple[int, ...]) -> None:
    """At its very end, contiguous or not, of a whole number of words or not."""
    expected = np.ones(shape, dtype=np.uint8)
    observed = expected.copy()
    observed.flat[-1] ^= 4
    place = tuple(length - 1 for length in shape)

    for left, right in ((observed, expected), (observed[..., ::-1], expected[..., ::-1])):
        comparison = compare("op", left, right)
        assert (comparison.mismatches, comparison.xor_mask) == (1, "0x04")
    assert compare("op", observed, expected).first_index == place
    assert compare("op", expected.copy(), expected).holds


def test_negative_zero_is_not_zero() -> None:
    """The sign of zero is a bit like any other."""
    comparison = compare("op", torch.tensor([0.0, -0.0]), array([0.0, 0.0]))

    assert comparison.first_index == (1,)
    assert comparison.xor_mask == "0x80000000"


def test_a_nan_equals_any_nan_and_only_a_nan() -> None:
    """NaN where the reference has one is right whatever its payload; elsewhere it is wrong."""
    payload = np.array([0x7FC00123], dtype=np.uint32).view(np.float32)

    assert compare("op", payload, array([NAN])).holds
    assert not compare("op", torch.tensor([NAN]), array([1.0])).holds
    assert not compare("op", torch.tensor([1.0]), array([NAN])).holds


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_parts_of_a_complex_number_are_compared_separately(dtype: str) -> None:
    """A NaN in one part excuses nothing in the other, and each part's bits count."""
    right = array([complex(NAN, 1.0), complex(1.0, 2.0)], dtype)
    size = 4 if dtype == "complex64" else 8

    assert compare("op", right.copy(), right).holds
    assert not compare("op", array([complex(NAN, 7.0), complex(1.0, 2.0)], dtype), right).holds
    assert not compare("op", array([complex(5.0, NAN), complex(1.0, 2.0)], dtype), right).holds
    imaginary = compare("op", array([complex(NAN, 1.0), complex(1.0, -2.0)], dtype), right)
    assert imaginary.xor_mask == "0x8" + "0" * (2 * size - 1)
    assert (imaginary.observed, imaginary.expected) == ("(1-2j)", "(1+2j)")


def test_first_and_worst_index() -> None:
    """The first and the worst index are reported, with the mask at the worst."""
    observed = torch.tensor([1.0, 2.5, 3.0, 100.0, 5.25])
    comparison = compare("op", observed, array([1.0, 2.0, 3.0, 4.0, 5.0]))

    assert (comparison.mismatches, comparison.first_index, comparison.worst_index) == (
        3,
        (1,),
        (3,),
    )
    assert (comparison.expected, comparison.observed) == (4.0, 100.0)
    mask = np.float32(4).view(np.uint32) ^ np.float32(100).view(np.uint32)
    assert comparison.xor_mask == f"0x{mask:08x}"


def test_nan_is_worse_than_any_number() -> None:
    """An element that is NaN is the worst."""
    comparison = compare("op", torch.tensor([3e38, NAN]), array([0.0, 0.0]))

    assert comparison.worst_index == (1,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_formats_that_numpy_lacks_are_compared_in_float32(dtype: torch.dtype) -> None:
    """Their values are compared exactly."""
    values = [1.0, -0.5, 0.0, 1.75]
    observed = torch.tensor(values).to(dtype)

    assert compare("op", observed, array(values)).holds
    assert compare("op", observed, array([1.0, -0.5, 0.0, 1.5])).mismatches == 1


def test_views_are_resolved() -> None:
    """Tensors that require gradients, conjugate and negative views, and strides are read right."""
    z = torch.tensor([1 + 2j, 3 - 4j])
    grid = torch.arange(6, dtype=torch.float32).reshape(2, 3)

    assert compare("conj", z.conj(), array([1 - 2j, 3 + 4j], "complex64")).holds
    assert compare("imag", z.conj().imag, array([-2.0, 4.0])).holds
    assert compare("grad", torch.ones(2, requires_grad=True), array([1.0, 1.0])).holds
    assert compare("t", grid.t(), array([[0, 3], [1, 4], [2, 5]])).holds


@pytest.mark.parametrize(
    ("observed", "expected", "problem"),
    [
        (torch.ones(2, 3), np.ones((3, 2), np.float32), "shape [2, 3] where [3, 2] is right"),
        (torch.ones(1), np.array(1, np.float32), "shape [1] where [] is right"),
        (torch.ones(2), np.ones(2), "dtype float32 where float64 is right"),
        (
            torch.ones(2, dtype=torch.int64),
            np.ones(2, np.int32),
            "dtype int64 where int32 is right",
        ),
        (np.ones(2, ">f4"), np.ones(2, "<f4"), "dtype >f4 where float32 is right"),
    ],
)
def test_another_shape_or_dtype_is_a_problem(
    observed: Any, expected: npt.NDArray[Any], problem: str
) -> None:
    """Broadcasting or converting to fit would hide a wrong answer."""
    comparison = compare("op", observed, expected)

    assert comparison.problem == problem
    assert not comparison.holds


def test_a_fault_of_sharing_does_not_hide_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `from_numpy` that gives zeros would make both sides equal if compare used it."""
    monkeypatch.setattr(torch, "from_numpy", lambda a: torch.zeros(a.shape))

    assert not compare("op", torch.tensor([1.0, 2.0]), array([1.0, 3.0])).holds


# ---- within an allowed error


@pytest.mark.parametrize("allowed", [0.5, np.array([0.5, 0.5, 0.5])])
def test_the_allowance_is_a_limit_itself_allowed(allowed: Any) -> None:
    """Exactly the allowed error holds; the next number does not; dtypes may differ."""
    expected = array([1.0, 2.0, 3.0], "float64")

    assert compare("op", torch.tensor([1.5, 1.5, 3.0]), expected, allowed).holds
    over = compare("op", np.array([1.0, np.nextafter(2.5, 3), 3.0]), expected, allowed)
    assert (over.mismatches, over.worst_index, over.allowed_error) == (1, (1,), 0.5)
    assert over.worst_error is not None
    assert over.worst_error > 0.5
    assert over.xor_mask is None


def test_worst_is_the_one_furthest_beyond_its_own_allowance() -> None:
    """An error of 1 where 0.001 is allowed is worse than 10 where 9 are."""
    comparison = compare("op", array([10.0, 1.0]), array([0.0, 0.0]), np.array([9.0, 0.001]))

    assert (comparison.first_index, comparison.worst_index) == ((0,), (1,))


@pytest.mark.parametrize(
    ("observed", "expected"),
    [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (1.0, INF), (INF, -INF), (NAN, INF), (INF, NAN)],
)
@pytest.mark.parametrize("allowed", [0.0, 1e300, INF, NAN])
def test_no_allowance_lets_nan_or_infinity_through(
    observed: float, expected: float, allowed: float
) -> None:
    """NaN and infinities must be where the reference has them, even under an infinite bound."""
    comparison = compare("op", array([observed]), array([expected]), allowed)

    assert (comparison.mismatches, comparison.worst_error) == (1, INF)


@pytest.mark.parametrize("value", [NAN, INF, -INF, complex(NAN, 1.0)])
def test_the_same_nan_or_infinity_holds(value: complex) -> None:
    """Where the reference has it, it is right."""
    assert compare("op", np.array([value]), np.array([value]), 0.0).holds


def test_complex_errors_are_distances() -> None:
    """|observed - expected| of complex numbers, and a NaN in one part excuses nothing."""
    right = array([1 + 1j], "complex64")

    assert compare("op", torch.tensor([4 + 5j]), right, 5.0).holds
    assert not compare("op", torch.tensor([4 + 5j]), right, 4.99).holds
    one = np.array([complex(NAN, 1.0)])
    for other in (complex(1.0, NAN), complex(NAN, NAN)):
        assert not compare("op", one, np.array([other]), INF).holds


def test_a_bound_of_zero_reports_without_a_warning() -> None:
    """A huge error over a zero bound is a mismatch, not an overflow of ours."""
    comparison = compare("op", np.array([[1e300, 0.0]]), np.zeros((1, 2)), 0.0)

    assert (comparison.mismatches, comparison.worst_index) == (1, (0, 0))


def test_empty_and_0d_within() -> None:
    """Shapes with no or one element are compared too."""
    assert compare("op", np.zeros((0, 2)), np.zeros((0, 2)), 0.0).holds
    assert compare("op", torch.tensor(2.0), np.array(1.0), 0.5).worst_index == ()


# ---- bounds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("terms", [1, 3, 64])
def test_dot_bound_holds_for_a_rounded_sum(dtype: torch.dtype, terms: int) -> None:
    """Summing left to right, rounded after every step, stays within gamma_K |a||b|."""
    generator = np.random.default_rng(7)
    a, b = generator.standard_normal((5, terms)), generator.standard_normal((terms, 4))
    a, b = (torch.tensor(m).to(dtype).double().numpy() for m in (a, b))
    total = torch.zeros(5, 4, dtype=dtype)
    for k in range(terms):
        product = torch.tensor(np.outer(a[:, k], b[k])).to(dtype)
        total = (total.double() + product.double()).to(dtype)
    error = np.abs(total.double().numpy() - a @ b)
    bound = dot_bound(a, b, UNIT_ROUNDOFF[dtype])

    assert bound.shape == (5, 4)
    assert (error <= bound).all()


def test_dot_bound_is_tight_enough_to_see_a_fault() -> None:
    """An answer wrong by 1e-3 of its size, or rounded to TF32, is outside in float32."""
    generator = np.random.default_rng(8)
    a, b = generator.random((6, 32)), generator.random((32, 6))  # positive: nothing cancels
    bound = dot_bound(a, b, UNIT_ROUNDOFF[torch.float32])
    tf32 = (a.astype(np.float32).view(np.uint32) & 0xFFFFE000).view(np.float32)  # 10 bits kept
    right = a @ b

    assert (np.abs(right * 1.001 - right) > bound).all()
    assert (np.abs(tf32.astype(np.float64) @ b - right) > bound).any()
    assert dot_bound(a, b, 2.0**-24)[0, 0] == pytest.approx(32 * 2.0**-24 * right[0, 0], rel=1e-5)


def test_dot_bound_over_batches_signs_and_nothing() -> None:
    """Signs do not cancel in the bound, batches have their own, and no term means no error."""
    a, b = np.array([[[1.0, -1.0]], [[2.0, 2.0]]]), np.array([[[1.0], [1.0]], [[1.0], [1.0]]])
    unit = 2.0**-24

    assert np.allclose(dot_bound(a, b, unit).ravel(), [4 * unit, 8 * unit], rtol=1e-6)
    assert dot_bound(np.ones((2, 0)), np.ones((0, 3)), unit).tolist() == [[0.0] * 3] * 2


def test_dot_bound_where_there_is_none() -> None:
    """For 256 terms of bfloat16 there is no bound: ValueError, not a negative or infinite one."""
    with pytest.raises(ValueError, match="256 terms"):
        dot_bound(np.ones((1, 256)), np.ones((256, 1)), UNIT_ROUNDOFF[torch.bfloat16])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_unit_roundoff_is_half_the_step_from_one(dtype: torch.dtype) -> None:
    """1 + u rounds back to 1 (ties to even), and a little more does not."""
    unit = UNIT_ROUNDOFF[dtype]

    assert unit == torch.finfo(dtype).eps / 2
    if dtype != torch.float64:
        assert torch.tensor(1 + unit, dtype=torch.float64).to(dtype).item() == 1
        assert torch.tensor(1 + unit * 1.01, dtype=torch.float64).to(dtype).item() > 1
