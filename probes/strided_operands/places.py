"""Where the elements of a tensor lie in a buffer: strides, offset, and room around them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]

#: Elements of the buffer behind the last one of the tensor.
_TAIL: Final = 3


@dataclass(frozen=True)
class Place:
    """Strides, offset and the size of the buffer, all in elements."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """The size of the buffer: a few elements more than the tensor needs."""
        ends = ((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True) if n)
        return self.offset + sum(ends) + 1 + _TAIL

    def index(self) -> npt.NDArray[np.int64]:
        """The position in the buffer of each element; of the tensor's shape."""
        return _index(self)

    def around(self) -> npt.NDArray[np.bool_]:
        """Which elements of the buffer are not the tensor's."""
        return _around(self)


@cache
def _index(place: Place) -> npt.NDArray[np.int64]:
    index = np.full(place.shape, place.offset)
    for axis, step in enumerate(place.strides):
        along = [1] * len(place.shape)
        along[axis] = -1
        index += step * np.arange(place.shape[axis]).reshape(along)
    return index


@cache
def _around(place: Place) -> npt.NDArray[np.bool_]:
    around = np.ones(place.size, bool)
    around[place.index().reshape(-1)] = False
    return around


def _dense(
    shape: Shape, order: Iterable[int], *, offset: int = 0, extra: int = 0, step: int = 1
) -> Place:
    """One element after the other, the axes from the outermost to the innermost.

    `extra`: unused elements behind each run of the innermost axis. `step`: every so many elements
    and rows of a wider tensor.
    """
    strides, width = [0] * len(shape), step
    for axis in reversed(list(order)):
        strides[axis] = width
        width = step * width * max(shape[axis], 1) + extra
        extra = 0
    return Place(shape, tuple(strides), offset)


def _in_order(shape: Shape, **room: int) -> Place:
    return _dense(shape, range(len(shape)), **room)


def _transposed(shape: Shape, **room: int) -> Place | None:
    """The last two axes exchanged, as by .mT."""
    if len(shape) < 2:
        return None
    *others, row, column = range(len(shape))
    return _dense(shape, (*others, column, row), **room)


def _reversed(shape: Shape) -> Place | None:
    return _dense(shape, range(len(shape))[::-1]) if len(shape) > 2 else None


def _channels_last(shape: Shape, **room: int) -> Place | None:
    """As torch.channels_last and channels_last_3d; also (N, L, C) seen as (N, C, L)."""
    axes = range(len(shape))
    return _dense(shape, (0, *axes[2:], 1), **room) if len(shape) > 2 else None


def _expanded(shape: Shape, axes: Callable[[int], range | tuple[int, ...]]) -> Place | None:
    """Stride 0 along some axes, as by .expand()."""
    if not shape:
        return None
    gone = {axis % len(shape) for axis in axes(len(shape))}
    narrow = _in_order(tuple(1 if axis in gone else n for axis, n in enumerate(shape)))
    strides = tuple(0 if axis in gone else step for axis, step in enumerate(narrow.strides))
    return Place(shape, strides, 1)


def _overlapping(shape: Shape) -> Place | None:
    """Windows that overlap, as by .unfold(): each axis but the last advances by a few elements."""
    if len(shape) < 2:
        return None
    return Place(shape, tuple(len(shape) - axis for axis in range(len(shape))), 2)


def _odd_ones(shape: Shape) -> Place | None:
    """Axes of one element with strides that no dense tensor has: they must not matter."""
    if 1 not in shape:
        return None
    dense = _in_order(shape, offset=2)
    strides = (7 if n == 1 else step for n, step in zip(shape, dense.strides, strict=True))
    return Place(shape, tuple(strides), 2)


Layout = Callable[[Shape], Place | None]

#: Layouts without overlap: a tensor of such a layout may be written to.
WRITABLE: Final[dict[str, Layout]] = {
    "contiguous": _in_order,
    "transposed": _transposed,
    "offset 1": partial(_in_order, offset=1),
    "wider rows": partial(_in_order, offset=2, extra=3),
    "steps": partial(_in_order, offset=1, step=2),
    "offset 3": partial(_in_order, offset=3),
    "channels_last": _channels_last,
    "transposed, wider": partial(_transposed, offset=3, extra=5),
    "reversed axes": _reversed,
    "channels_last, sliced": partial(_channels_last, offset=3, extra=2),
    "odd ones": _odd_ones,
}
#: Layouts in which several elements share memory; in the last one all do.
OVERLAPPING: Final[dict[str, Layout]] = {
    "expanded rows": partial(_expanded, axes=lambda _: (0,)),
    "overlapping": _overlapping,
    "expanded columns": partial(_expanded, axes=lambda _: (-1,)),
    "one number": partial(_expanded, axes=range),
}
LAYOUTS: Final = WRITABLE | OVERLAPPING


@cache
def layouts_of(shape: Shape, *, writable: bool = False) -> tuple[str, ...]:
    """The names of the layouts that a tensor of that shape can have."""
    table = WRITABLE if writable else LAYOUTS
    return tuple(name for name, layout in table.items() if layout(shape) is not None)


@cache
def place(shape: Shape, layout: str) -> Place:
    """The place of a tensor of that shape in that layout, which it must be able to have."""
    found = LAYOUTS[layout](shape)
    if found is None:
        raise ValueError(f"{layout} is no layout for {math.prod(shape)} elements of shape {shape}")
    return found


@cache
def combinations(shapes: tuple[Shape, ...], *shifts: int) -> tuple[tuple[str, ...], ...]:
    """The layouts of several operands at once: each takes all of its own, one after the other.

    `shifts`: how many layouts each operand is ahead of the one before; 0: all alike.
    """
    names = tuple(layouts_of(shape) for shape in shapes)
    turns = range(max((len(each) for each in names), default=1))
    chosen = (
        tuple(each[(turn + shift * at) % len(each)] for at, each in enumerate(names))
        for shift in shifts
        for turn in turns
    )
    return tuple(dict.fromkeys(chosen))
