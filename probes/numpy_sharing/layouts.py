"""Strides, offsets and shapes are kept, and a write through a view changes the right elements.

The flat positions of a layout's elements are computed in plain Python.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from probes.contract import Comparison, Frozen
from probes.kit.references import compare
from probes.numpy_sharing.evidence import Buffer, address, combined, fact, strides, values
from probes.numpy_sharing.sharing import export_calls, import_calls, may_be_read_only

_ELEMENTS: Final = 48
_DTYPE: Final = "int32"
_ITEMSIZE: Final = 4

#: Calls that share every layout; frombuffer needs a flat one, asarray copies a 0-d array.
_IMPORTS: Final = ("torch.from_numpy(a)", "torch.as_tensor(a)", "torch.from_dlpack(a)")


class Layout(Frozen):
    """A view of a flat buffer of 48 elements; strides and offset in elements."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def positions(self) -> list[int]:
        """The flat position of each element, in index order."""
        return [
            self.offset + sum(i * stride for i, stride in zip(index, self.strides, strict=True))
            for index in itertools.product(*(range(size) for size in self.shape))
        ]


LAYOUTS: Final = (
    Layout(name="C order", shape=(3, 5), strides=(5, 1)),
    Layout(name="F order", shape=(3, 5), strides=(1, 3)),
    Layout(name="offset", shape=(2, 4), strides=(4, 1), offset=7),
    Layout(name="every second", shape=(3, 4), strides=(16, 2), offset=1),
    Layout(name="holes", shape=(3, 2), strides=(10, 1), offset=4),
    Layout(name="permuted", shape=(4, 2, 3), strides=(1, 12, 4)),
    Layout(name="expanded", shape=(3, 4), strides=(0, 1), offset=2),
    Layout(name="sliding", shape=(4, 3), strides=(1, 1), offset=5),
    Layout(name="one element", shape=(1, 1, 1), strides=(9, 2, 5), offset=9),
    Layout(name="0-d", shape=(), strides=(), offset=11),
    Layout(name="empty (0, 3)", shape=(0, 3), strides=(3, 1)),
    Layout(name="empty (2, 0)", shape=(2, 0), strides=(1, 1), offset=3),
)


def _same_view(
    layout: Layout, base: Buffer, result: Buffer, *, writes: bool = True
) -> Iterator[Comparison]:
    """Compare `result` with the layout's view of `base`, which belongs to the other library."""
    positions = layout.positions()
    flat = np.arange(_ELEMENTS, dtype=_DTYPE)
    yield fact("shape", tuple(result.shape), layout.shape)
    if positions:  # without elements, address and strides have no meaning
        yield fact("offset, bytes", address(result) - address(base), layout.offset * _ITEMSIZE)
        wide = [axis for axis, size in enumerate(layout.shape) if size > 1]
        steps = strides(result)
        yield fact(
            "strides, bytes",
            [steps[axis] for axis in wide],
            [layout.strides[axis] * _ITEMSIZE for axis in wide],
        )
    yield compare("values", values(result), flat[positions].reshape(layout.shape))
    if len(set(positions)) < len(positions):
        return  # torch rightly refuses to write to overlapping elements
    if writes:
        result += 100
        flat[positions] += 100
    yield compare("the whole buffer after a write through the view", values(base), flat)
    base[:] = 7
    yield compare(
        "the view after a write to the buffer",
        values(result),
        np.full(layout.shape, 7, dtype=_DTYPE),
    )


def _import(
    layout: Layout, call: Callable[[npt.NDArray[Any]], torch.Tensor]
) -> Iterator[Comparison]:
    base = np.arange(_ELEMENTS, dtype=_DTYPE)
    view: npt.NDArray[Any] = np.ndarray(
        layout.shape,
        base.dtype,
        buffer=base,
        offset=layout.offset * _ITEMSIZE,
        strides=[stride * _ITEMSIZE for stride in layout.strides],
    )
    yield from _same_view(layout, base, call(view))


def _export(
    layout: Layout, export: Callable[[torch.Tensor], npt.NDArray[Any]]
) -> Iterator[Comparison]:
    base = torch.arange(_ELEMENTS, dtype=torch.int32, device=torch.device("cpu"))
    view = torch.as_strided(base, layout.shape, layout.strides, layout.offset)
    result = export(view)
    writes = result.flags.writeable or not may_be_read_only(export)
    yield from _same_view(layout, base, result, writes=writes)


def to_torch() -> tuple[Comparison, ...]:
    """Compare every layout of an array, for each call to torch."""
    calls = {name: call for calls in import_calls().values() for name, call in calls.items()}
    return tuple(
        combined(layout.name, [combined(name, _import(layout, calls[name])) for name in _IMPORTS])
        for layout in LAYOUTS
    )


def to_numpy() -> tuple[Comparison, ...]:
    """Compare every layout of a tensor, for each call to NumPy."""
    exports = [item for calls in export_calls().values() for item in calls.items()]
    return tuple(
        combined(layout.name, [combined(name, _export(layout, call)) for name, call in exports])
        for layout in LAYOUTS
    )
