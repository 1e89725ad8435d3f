"""Operands and results as the registers of a warp hold them, and integers as numbers of each type.

A lane is `4 * group + member`. Register r of A holds `width` neighbours of row `group` (and of row
`group + 8` where r is odd and A has 16 rows), from column `width * member` of its quarter on; of B
the same of column `group`; result i is in row `group` (`group + 8` from 2 on), column
`2 * member + i % 2`.

Ref: https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-fragment-mma-16816-float
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from probes.tensor_cores.units import WIDTHS, Operand, Result, Unit

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]
Array = npt.NDArray[Any]

LANES: Final = 32

#: Words of A, of B and of the result that a lane has at most; those that it does not use are zero.
WORDS: Final = 4

_GROUP: Final = np.arange(LANES) // 4
_MEMBER: Final = np.arange(LANES) % 4

#: Operand -> bits of the exponent and of the mantissa.
_SMALL: Final[dict[Operand, tuple[int, int]]] = {"e4m3": (4, 3), "e5m2": (5, 2)}


def stored(values: Integers, operand: Operand, powers: Integers | int = 0) -> Array:
    """The bits of integers times powers of two, as unsigned integers of the type's size.

    The type holds them exactly, and floating ones as normal numbers.
    """
    if operand in _SMALL:
        return _small_floats(values, powers, *_SMALL[operand])
    if operand == "int8":
        return values.astype(np.int8).view(np.uint8)
    if operand == "u32":
        return values.astype(np.uint32)
    scaled = np.ldexp(values.astype(np.float64), powers)
    if operand == "fp16":
        return scaled.astype(np.float16).view(np.uint16)
    if operand == "fp64":
        return scaled.view(np.uint64)
    bits = scaled.astype(np.float32).view(np.uint32)
    return (bits >> 16).astype(np.uint16) if operand == "bf16" else bits


def _small_floats(
    values: Integers, powers: Integers | int, exponent_bits: int, mantissa_bits: int
) -> Array:
    sizes = np.abs(values)
    power = (np.frexp(np.maximum(sizes, 1).astype(np.float64))[1] - 1).astype(np.int64)
    mantissa = (sizes << mantissa_bits >> power) - (1 << mantissa_bits)
    exponent = power + np.asarray(powers, np.int64) + (1 << (exponent_bits - 1)) - 1
    bits = np.where(sizes > 0, exponent << mantissa_bits | mantissa, 0)
    return np.asarray(bits | (values < 0) << 7).astype(np.uint8)


def results(values: Array, result: Result, powers: Integers | int = 0) -> Array:
    """The bits of exact results, times powers of two."""
    if result in {"f32", "f64"}:
        values = np.ldexp(values.astype(np.float64), powers)
    kinds: dict[Result, Any] = {"f32": np.float32, "s32": np.int32, "f64": np.float64}
    return values.astype(kinds[result]).view(np.uint64 if result == "f64" else np.uint32)


def padded(elements: Array) -> Words:
    """Elements (steps, lanes, count) as words (steps, lanes, WORDS), the rest zero."""
    words = np.ascontiguousarray(elements).view(np.uint32)
    found = np.zeros((*words.shape[:2], WORDS), np.uint32)
    found[:, :, : words.shape[2]] = words
    return found


def of_a(values: Integers, unit: Unit, powers: Integers | None = None) -> Words:
    """The registers of A (steps, rows, depth), times powers of two (the same or broadcast)."""
    width, tall = WIDTHS[unit.operand], unit.rows == 2 * 8
    register, element = _registers(unit.rows * unit.depth, width)
    row = _GROUP[:, None] + (8 * (register % 2) if tall else 0)
    quarter = register // 2 if tall else register
    column = width * (4 * quarter + _MEMBER[:, None]) + element
    return padded(_stored_at(values, row, column, unit, powers))


def of_b(values: Integers, unit: Unit, powers: Integers | None = None) -> Words:
    """The registers of B (steps, depth, 8), times powers of two."""
    width = WIDTHS[unit.operand]
    register, element = _registers(8 * unit.depth, width)
    row = width * (4 * register + _MEMBER[:, None]) + element
    column = np.broadcast_to(_GROUP[:, None], row.shape)
    return padded(_stored_at(values, row, column, unit, powers))


def _stored_at(
    values: Integers, row: Array, column: Array, unit: Unit, powers: Integers | None
) -> Array:
    by = np.broadcast_to(0 if powers is None else powers, values.shape)
    return stored(values[:, row, column], unit.operand, by[:, row, column])


def of_d(values: Integers, unit: Unit, powers: Integers | None = None) -> Words:
    """The registers of D (steps, rows, 8), times powers of two."""
    index = np.arange(8 * unit.rows // LANES)
    row = _GROUP[:, None] + 8 * (index // 2)
    column = 2 * _MEMBER[:, None] + index % 2
    by = np.broadcast_to(0 if powers is None else powers, values.shape)
    return padded(results(values[:, row, column], unit.result, by[:, row, column]))


def _registers(elements: int, width: int) -> tuple[Array, Array]:
    """Register, and place in it, of each element of a lane."""
    index = np.arange(elements // LANES)
    return index // width, index % width
