"""The pattern of wrong elements: ends, stride, a common row or column, the bits."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from probes.contract import Pattern
from probes.kit.mismatch import pattern
from probes.kit.references import compare


def wrong_at(shape: tuple[int, ...], places: Any) -> npt.NDArray[np.bool_]:
    """A mask with the elements at these row-major places wrong."""
    mask = np.zeros(shape, np.bool_)
    mask.reshape(-1)[np.asarray(places, np.intp)] = True
    return mask


def test_one_element() -> None:
    """Its index; one element has no stride and shares no index."""
    assert pattern(wrong_at((3, 4), [6])) == Pattern(elements=12, mismatches=1, first=((1, 2),))


def test_a_column() -> None:
    """One lane of a product: one index on an axis, and the row's length between elements."""
    mask = np.zeros((64, 32), np.bool_)
    mask[:, 5] = True
    seen = pattern(mask)

    assert (seen.elements, seen.mismatches) == (2048, 64)
    assert seen.first == ((0, 5), (1, 5), (2, 5))
    assert seen.last == ((61, 5), (62, 5), (63, 5))
    assert seen.common_index == (None, 5)
    assert (seen.stride, seen.regular) == (32, True)


def test_a_row() -> None:
    """One index on the other axis, and neighbours."""
    seen = pattern(wrong_at((4, 8), range(16, 24)))

    assert seen.common_index == (2, None)
    assert (seen.stride, seen.regular) == (1, True)


@pytest.mark.parametrize(
    ("places", "stride", "regular"),
    [
        ([3, 35, 67, 99], 32, True),
        ([3, 35, 99, 131], 32, False),  # one of the lane was right by chance
        ([3, 4, 99], 1, False),
        ([1, 7, 11], 2, False),
        ([7, 9], 2, True),
    ],
)
def test_a_stride(places: list[int], stride: int, regular: bool) -> None:  # noqa: FBT001
    """The greatest common divisor of the distances, and whether all are as large as it."""
    seen = pattern(wrong_at((200,), places))

    assert (seen.stride, seen.regular) == (stride, regular)
    assert seen.common_index == (None,)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 200])
def test_no_index_is_told_twice(count: int) -> None:
    """The first three, and the last three of the others."""
    seen = pattern(wrong_at((200,), range(count)))
    told = [*seen.first, *seen.last]

    assert len(set(told)) == len(told) == min(count, 6)
    assert told[-1] == (count - 1,)


def test_no_axis() -> None:
    """The one element of a 0-d output has an empty index."""
    assert pattern(np.bool_(True)).first == ((),)
    assert pattern(np.array(True)).first == ((),)


def test_a_bit_that_is_stuck() -> None:
    """The same bit in every wrong element; elements that hold it anyway are right."""
    right = np.arange(64, dtype=np.int32)
    seen = compare("op", right | 8, right).pattern

    assert seen is not None
    assert (seen.bits_any, seen.bits_all) == ("0x00000008", "0x00000008")
    assert seen.mismatches == 32


def test_bits_that_differ() -> None:
    """What is wrong in some element, and what in all of them."""
    right = np.zeros(3, np.uint8)
    seen = compare("op", np.array([5, 3, 0], np.uint8), right).pattern

    assert seen is not None
    assert (seen.bits_any, seen.bits_all) == ("0x07", "0x01")


def test_parts_of_complex_numbers_and_nan() -> None:
    """A part that is right, or NaN on both sides, masks nothing."""
    right = np.array([complex(1, float("nan")), complex(1, 2)], "complex64")
    seen = compare("op", np.array([complex(-1, float("nan")), complex(1, -2)], "complex64"), right)

    assert seen.pattern is not None
    assert seen.pattern.bits_any == seen.pattern.bits_all == "0x80000000"


def test_where_bits_may_differ_none_is_told() -> None:
    """An output within a bound differs in bits that mean nothing."""
    seen = compare("op", np.array([1.5, 9.0]), np.array([1.0, 2.0]), 0.6).pattern

    assert seen is not None
    assert (seen.mismatches, seen.first, seen.bits_any, seen.bits_all) == (1, ((1,),), None, None)


def test_a_right_output_has_no_pattern() -> None:
    """A passing report is no longer for it."""
    assert compare("op", np.ones(3), np.ones(3)).pattern is None
    assert compare("op", np.ones(3), np.ones(3) + 1e-9, 1e-6).pattern is None
    assert compare("op", np.ones(3), np.ones(4)).pattern is None
