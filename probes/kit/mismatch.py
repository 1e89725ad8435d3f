"""Which elements of an output are wrong, and in which bits."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from probes.contract import Pattern

#: Indices at either end that a pattern names.
_ENDS: Final = 3


def pattern(
    wrong: npt.NDArray[np.bool_] | np.bool_, bits: npt.NDArray[Any] | None = None
) -> Pattern:
    """The pattern of an output in which some element is wrong.

    Args:
        wrong: whether each element is; of the output's shape.
        bits: the XOR of the output's words with the right ones, of any shape; None where bits may
            differ.
    """
    wrong = np.asarray(wrong)
    places = np.flatnonzero(wrong)
    gaps = np.diff(places)
    stride = int(np.gcd.reduce(gaps)) if gaps.size else None
    words = None if bits is None else bits[bits != 0]
    return Pattern(
        elements=wrong.size,
        mismatches=places.size,
        first=_indices(places[:_ENDS], wrong.shape),
        last=_indices(places[_ENDS:][-_ENDS:], wrong.shape),
        common_index=_common_index(wrong) if gaps.size else (),
        stride=stride,
        regular=bool((gaps == stride).all()) if gaps.size else False,
        bits_any=None if words is None else _mask(np.bitwise_or.reduce(words)),
        bits_all=None if words is None else _mask(np.bitwise_and.reduce(words)),
    )


def _indices(places: npt.NDArray[np.intp], shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Row-major positions as indices of that shape."""
    return tuple(tuple(int(i) for i in np.unravel_index(place, shape)) for place in places)


def _common_index(wrong: npt.NDArray[np.bool_]) -> tuple[int | None, ...]:
    """On each axis the index that all wrong elements have, or None."""
    found: list[int | None] = []
    for axis in range(wrong.ndim):
        others = tuple(other for other in range(wrong.ndim) if other != axis)
        at = np.flatnonzero(wrong.any(axis=others))
        found.append(int(at[0]) if at.size == 1 else None)
    return tuple(found)


def _mask(word: Any) -> str:
    """A word as hexadecimal, with all its digits."""
    return f"0x{int(word):0{2 * word.itemsize}x}"
