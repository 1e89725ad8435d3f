"""What each unit is given, and what every lane of a warp must answer, in plain integers.

A warp multiplies all steps, REPEATS times into the same accumulators each, hashes them in order,
and does so in passes; lanes answer apart. Everything is exact, so that an answer is right or wrong.
Floating operands are integers times powers of two, which use the bits of their exponents: those of
a column of A and of the row of B that it meets have the same product in all of a step.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from probes.tensor_cores import fragments
from probes.tensor_cores.fragments import LANES, Integers, Words, of_a, of_b, of_d, padded
from probes.tensor_cores.units import POWERS, REPEATS, Unit

#: Different operands of a pass.
STEPS: Final = 16

#: The odd factor of the hash.
FACTOR: Final = 0x9E3779B97F4A7C15
_MODULUS: Final = 2**64
_SEED: Final = 20261126

#: One step of so many has products of one sign in each row.
_SAME_SIGN: Final = 4

#: Where an operand is changed on purpose.
PLANTED_STEP: Final = 5

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Problem:
    """Operands and right results as a kernel reads them; hash and mask of each lane's answer."""

    unit: Unit
    a: Words  # (steps, lanes, 4), as b and right
    b: Words
    right: Words  # what the kernel compares with
    hashes: Hashes  # (lanes,) of one pass
    masks: Hashes  # (lanes,) bits that differ from `right`: those of even words, those of odd ones

    @property
    def cells(self) -> Words:
        """All that the kernel reads: (steps, lanes, 12)."""
        return np.concatenate([self.a, self.b, self.right], axis=2)

    def digests(self, passes: int) -> Hashes:
        """What the lanes answer after so many passes."""
        factor = 0
        for _ in range(passes):
            factor = (factor * FACTOR + 1) % _MODULUS
        return np.asarray(self.hashes * np.uint64(factor))


@cache
def problem(unit: Unit) -> Problem:
    """The problem of a unit; the same in every run."""
    return _solved(unit, _operands(unit))


@cache
def planted(unit: Unit) -> Problem:
    """The same with one operand changed, and what was right before."""
    given = _operands(unit)
    right = _solved(unit, given).right
    changed = given.a.copy()
    changed[PLANTED_STEP, 0, 0] *= -1
    found = _solved(unit, given._replace(a=changed))
    differing = np.bitwise_or.reduce(found.right ^ right, axis=0).astype(np.uint64)
    masks = differing[:, 0] | differing[:, 2] | (differing[:, 1] | differing[:, 3]) << np.uint64(32)
    return replace(found, right=right, masks=masks)


def _operands(unit: Unit) -> "_Operands":
    """The same in every run."""
    rng = np.random.default_rng(_SEED)
    if not unit.depth:
        a, b = _scalars(unit, rng)
        return _Operands(a, b, *_powers(unit, a.shape, a.shape, rng))
    a, b = _matrices(unit, rng)
    of_a, of_products = _powers(unit, (STEPS, unit.depth), (STEPS, 1), rng)
    return _Operands(a, b, of_a, of_products)


class _Operands(NamedTuple):
    """Integers, and the powers of two by which they are multiplied.

    Of matrices those of A are (steps, depth) and of their products (steps, 1); of scalars both have
    the scalars' shape. Those of B are the difference.
    """

    a: Integers
    b: Integers
    of_a: Integers
    of_products: Integers


def _powers(
    unit: Unit, shape: tuple[int, ...], products: tuple[int, ...], rng: np.random.Generator
) -> tuple[Integers, Integers]:
    """Powers of A, and of products; both operands have powers of two in the range of the type."""
    if unit.operand not in POWERS:
        return np.zeros(shape, np.int64), np.zeros(products, np.int64)
    (low, high), (least, most) = POWERS[unit.operand]
    total = rng.integers(max(least, 2 * low), min(most, 2 * high) + 1, products)
    from_, to = np.maximum(low, total - high), np.minimum(high, total - low)
    return rng.integers(from_, to + 1, shape), total


def _matrices(unit: Unit, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """A (steps, rows, depth) and B (steps, depth, 8) without zeros.

    No sum is zero either: its sign would depend on the order.
    """
    large, small = unit.largest
    steps: list[tuple[Integers, Integers]] = []
    while len(steps) < STEPS:
        a_most, b_most = (large, small) if len(steps) % 2 else (small, large)
        a = rng.integers(1, a_most + 1, (unit.rows, unit.depth))
        b = rng.integers(1, b_most + 1, (unit.depth, 8))
        if len(steps) % _SAME_SIGN:
            a, b = (each * rng.choice([-1, 1], each.shape) for each in (a, b))
        else:  # sums are as large as they get
            a *= rng.choice([-1, 1], (unit.rows, 1))
        if (a @ b).all():
            steps.append((a, b))
    return np.stack([a for a, _ in steps]), np.stack([b for _, b in steps])


def _scalars(unit: Unit, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Both (steps, lanes, count): odd, so that no product loses bits below."""
    shape = (STEPS, LANES, fragments.WORDS * 32 // unit.bits)
    low = 0 if unit.result == "u32" else -unit.largest[0]
    a, b = (rng.integers(low, unit.largest[0], shape) | 1 for _ in range(2))
    return a, b


def _solved(unit: Unit, given: _Operands) -> Problem:
    a, b, powers, total = given
    if unit.depth:
        operands = of_a(a, unit, powers[:, None]), of_b(b, unit, (total - powers)[:, :, None])
        right = of_d(REPEATS * (a @ b), unit, total[:, :, None]) + _starts(unit)
    else:
        operands = (
            padded(fragments.stored(a, unit.operand, powers)),
            padded(fragments.stored(b, unit.operand, total - powers)),
        )
        right = padded(_added(unit, a, b, total))
    return Problem(unit, *operands, right, _hashes(right), np.zeros(LANES, np.uint64))


def _starts(unit: Unit) -> Words:
    """What accumulators begin with: (steps, lanes, WORDS)."""
    shape = (STEPS, LANES, fragments.WORDS)
    return (np.arange(1, 1 + np.prod(shape)) * unit.start % 2**32).astype(np.uint32).reshape(shape)


def _added(unit: Unit, a: Integers, b: Integers, powers: Integers) -> npt.NDArray[Any]:
    """REPEATS times d = a * b + d, rounded once each time; of integers d = d * a + b.

    Powers of two change no rounding.
    """
    if unit.result == "u32":
        x, y = a.astype(np.uint32), b.astype(np.uint32)
        whole = _starts(unit)
        for _ in range(REPEATS):
            whole = whole * x + y
        return whole
    if unit.result == "f32":
        rounded = np.zeros(a.shape, np.float32)
        for _ in range(REPEATS):
            rounded = (a * b + rounded.astype(np.int64)).astype(np.float32)
    else:
        rounded = np.vectorize(_added_fp64, otypes=[np.float64])(a, b)
    return fragments.results(rounded, unit.result, powers)


def _added_fp64(a: int, b: int) -> float:
    """Python's integers have all bits, and become the nearest float64, to even."""
    found, product = 0.0, int(a) * int(b)
    for _ in range(REPEATS):
        found = float(product + int(found))
    return found


def _hashes(right: Words) -> Hashes:
    """Each lane's hash of its words, in the order of steps."""
    found = np.zeros(LANES, np.uint64)
    for step in right.astype(np.uint64):
        for word in step.T:
            found = (found ^ word) * np.uint64(FACTOR)
            found ^= found >> np.uint64(32)
    return found
