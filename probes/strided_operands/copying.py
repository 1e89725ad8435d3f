"""Copies, joins and moves of operands of every layout, in types of each size: bits are equal."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

from probes.contract import Comparison
from probes.kit.trial import Custom, Trial, fact
from probes.strided_operands.memory import Operand, place_values
from probes.strided_operands.operations import SINGLE, Operation, read

#: One type of each element size.
SIZES: Final = (
    *(torch.float32, torch.bool, torch.uint8, torch.int16, torch.float64),
    *(torch.bfloat16, torch.complex128),
)
_SHAPE: Final = (4, 5, 33)
_X: Final = Operand(_SHAPE, 0, 99)
_IMAGE: Final = Operand((2, 6, 5, 4), 0, 99)
_VOLUME: Final = Operand((2, 3, 4, 2, 5), 0, 99)


def _one(name: str, answer: Callable[..., Any], operand: Operand = _X, **fields: Any) -> Operation:
    return Operation(name, (operand,), answer, **{"dtypes": SINGLE, "out": False, **fields})


def _joined(name: str, axis: int, *operands: Operand, **fields: Any) -> Operation:
    """Operands joined along an axis; `torch` takes them as a list."""
    answer: Any = {"cat": np.concatenate, "stack": np.stack}[name]

    def call(*tensors: torch.Tensor, **given: Any) -> torch.Tensor:
        joined: torch.Tensor = getattr(torch, name)(tensors, **given)
        return joined

    return Operation(
        name, operands, lambda *x: answer(x, axis), options={"dim": axis}, call=call, **fields
    )


def _copies() -> Iterator[Operation]:
    yield _one("clone", np.copy, dtypes=SIZES)
    yield _one("Tensor.contiguous", np.copy, dtypes=SIZES)
    yield _one("flip", lambda x: x[::-1, :, ::-1], after=((0, 2),), dtypes=SIZES)
    yield _joined("cat", 1, _X, Operand((4, 2, 33), 0, 99), Operand((4, 0, 33)), dtypes=SIZES)
    for axis in (0, 2):
        yield _joined("cat", axis, _X, _X, dtypes=SINGLE)
    yield _joined("cat", 1, _IMAGE, _IMAGE, dtypes=(torch.float32, torch.float16))
    for axis in (0, 1, 3):
        yield _joined("stack", axis, _X, _X, dtypes=SINGLE)
    for memory_format, operand in (
        (torch.channels_last, _IMAGE),
        (torch.channels_last_3d, _VOLUME),
        (torch.contiguous_format, _IMAGE),
    ):
        options = {"memory_format": memory_format}
        yield _one("clone", np.copy, operand, options=options)
        yield _one("Tensor.contiguous", np.copy, operand, options=options)
    yield _one("Tensor.to", lambda x: x.astype(np.int64), after=(torch.int64,))
    yield _one("Tensor.to", lambda x: x, after=(torch.float64,), call=_there_and_back)
    yield _one("Tensor.to", lambda x: x, after=(torch.bfloat16,), call=_there_and_back)
    yield _one("Tensor.to", lambda x: x, after=(torch.uint8,), call=_there_and_back)
    yield _one("reshape", np.ravel, after=((-1,),))
    yield _one("reshape", lambda x: x.reshape(2, 10, 33), after=((2, 10, 33),))
    yield _one("roll", lambda x: np.roll(x, (3, -5), (0, 2)), after=((3, -5), (0, 2)))
    yield _one("tril", lambda x: np.tril(x, 1), options={"diagonal": 1}, out=True)
    yield _one("triu", np.triu, out=True)
    yield _one("Tensor.repeat", lambda x: np.tile(x, (2, 1, 3)), after=(2, 1, 3))
    yield _one("repeat_interleave", lambda x: np.repeat(x, 2, 1), after=(2, 1))
    yield _one("diagonal", lambda x: np.diagonal(x, 1, 0, 2), after=(1, 0, 2))
    yield _one("movedim", lambda x: np.moveaxis(x, 0, 2), after=(0, 2))
    yield _one("unbind", lambda x: tuple(np.moveaxis(x, 1, 0)), after=(1,))
    yield _one("split", lambda x: (x[:, :2], x[:, 2:4], x[:, 4:]), after=(2, 1))
    yield _one("Tensor.unfold", _windows, after=(2, 4, 3))
    yield _one(
        "nn.functional.pad", lambda x: np.pad(x, ((0, 0), (1, 2), (2, 1))), after=((2, 1, 1, 2),)
    )
    yield _one(
        "nn.functional.pixel_shuffle",
        lambda x: x.reshape(2, 2, 2, 2, 3, 5).transpose(0, 1, 4, 2, 5, 3).reshape(2, 2, 6, 10),
        Operand((2, 8, 3, 5)),
        after=(2,),
    )


def _windows(x: Any) -> Any:
    return np.stack([x[:, :, at : at + 4] for at in range(0, 30, 3)], 2)


def _there_and_back(x: torch.Tensor, other: torch.dtype) -> torch.Tensor:
    """Into another type, which holds these values, and back, with the strides kept."""
    return x.to(other).to(x.dtype)


COPIES: Final = tuple(_copies())


def copies(device: str) -> Iterator[Trial]:
    """Copies, conversions, joins, flips, rolls and windows."""
    yield from read(COPIES, device)
    yield Custom("clone", _formats)


def _formats(device: str) -> Iterator[Comparison]:
    """Dense tensors keep their strides; a memory format that is asked for is taken."""
    for layout in ("transposed", "channels_last", "reversed axes"):
        dense = place_values(_IMAGE, layout, torch.float32, device, 30).tensor
        yield fact(f"clone (strides; {layout})", dense.clone().stride(), dense.stride())
        taken = dense.contiguous(memory_format=torch.channels_last)
        right = taken.is_contiguous(memory_format=torch.channels_last)
        yield fact(f"Tensor.contiguous (channels_last; {layout})", right, expected=True)
