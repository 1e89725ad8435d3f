"""The units that are tested: which instruction reaches each, and on which GPUs.

`mma.sync` is the instruction that one warp issues to the tensor core of its sub-partition. Where a
compiler makes other instructions of it (fp8 on 9.0, 10.x and 11.x: conversions and float16
products), what it names is not tested, and the unit is left out.

Ref: https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-instructions-mma
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

#: Products of an operand are added to the same accumulators so often: the bounds below hold for it.
REPEATS: Final = 8

#: An odd number with many bits.
_START: Final = 0x9E3779B1

#: How operands are stored, and results.
Operand = Literal["fp16", "bf16", "tf32", "int8", "fp64", "e4m3", "e5m2", "fp32", "u32"]
Result = Literal["f32", "s32", "f64", "u32"]

Capability = tuple[int, int]


class Powers(NamedTuple):
    """Powers of two by which operands are multiplied, from and to; and those of their products.

    Operands stay normal numbers and so do all sums, which are as exact as those of the integers.
    """

    operand: tuple[int, int]
    product: tuple[int, int]


#: Operand -> the powers that use the bits of its exponent; integers have none.
POWERS: Final[dict[Operand, Powers]] = {
    "fp16": Powers((-14, 5), (-28, 10)),
    "bf16": Powers((-126, 116), (-100, 90)),
    "tf32": Powers((-126, 116), (-100, 90)),
    "fp64": Powers((-1000, 940), (-940, 840)),
    "e4m3": Powers((-6, 4), (-12, 8)),
    "e5m2": Powers((-14, 13), (-28, 26)),
    "fp32": Powers((-126, 103), (-100, 70)),
}

#: Operand -> elements in a register; those of fp64 take two registers each.
WIDTHS: Final[dict[Operand, int]] = {
    "fp16": 2,
    "bf16": 2,
    "tf32": 1,
    "int8": 4,
    "fp64": 1,
    "e4m3": 4,
    "e5m2": 4,
}


@dataclass(frozen=True)
class Unit:
    """One unit by one instruction: `D += A * B` of a warp, or of each lane where depth is 0."""

    name: str  # the check's
    instruction: str  # in PTX
    operand: Operand
    result: Result
    #: Largest absolute values of two operands: all sums are exact. Either may be the larger one.
    largest: tuple[int, int]
    rows: int = 0  # of A (rows, depth), B (depth, 8) and D (rows, 8)
    depth: int = 0
    since: Capability = (7, 0)
    before: Capability = (99, 0)

    @property
    def start(self) -> int:
        """The factor by which accumulators begin with other integers; 0: they begin with 0.

        Sums of int8 are far from using all bits of their accumulators, which wrap; the lowest bits
        of what odd integers make of 0 are 0.
        """
        return _START if self.operand in {"int8", "u32"} else 0

    @property
    def bits(self) -> int:
        """Of one element of the result."""
        return 64 if self.result == "f64" else 32


def _mma(
    name: str,
    operand: Operand,
    result: Result,
    shape: tuple[int, int],
    largest: tuple[int, int],
    since: Capability,
    before: Capability = (99, 0),
) -> Unit:
    rows, depth = shape
    types = {"fp16": "f16", "int8": "s8", "fp64": "f64"}.get(operand, operand)
    instruction = f"mma.sync.aligned.m{rows}n8k{depth}.row.col.{result}.{types}.{types}.{result}"
    return Unit(name, instruction, operand, result, largest, rows, depth, since, before)


_FP8_E4M3: Final = ("fp8_e4m3", "e4m3", "f32", (16, 32), (15, 1))
_FP8_E5M2: Final = ("fp8_e5m2", "e5m2", "f32", (16, 32), (7, 2))

#: Largest values: `REPEATS * depth * a * b` is below 2^24 for float32 accumulators, 2^53 for
#: float64 ones, and 2^12 for fp8, whose units align their sums to 14 bits or so.
UNITS: Final = (
    _mma("fp16", "fp16", "f32", (16, 8), (2047, 31), (7, 5), (8, 0)),
    _mma("fp16", "fp16", "f32", (16, 16), (2047, 31), (8, 0)),
    _mma("bf16", "bf16", "f32", (16, 16), (255, 255), (8, 0)),
    _mma("tf32", "tf32", "f32", (16, 8), (2047, 31), (8, 0)),
    _mma("int8", "int8", "s32", (8, 16), (127, 127), (7, 5), (8, 0)),
    _mma("int8", "int8", "s32", (16, 32), (127, 127), (8, 0)),
    _mma("fp64", "fp64", "f64", (8, 4), (2**24 - 1, 2**23 - 1), (8, 0)),
    _mma(*_FP8_E4M3, (8, 9), (9, 0)),
    _mma(*_FP8_E4M3, (12, 0), (13, 0)),
    _mma(*_FP8_E5M2, (8, 9), (9, 0)),
    _mma(*_FP8_E5M2, (12, 0), (13, 0)),
    Unit("fma_fp32", "fma.rn.f32", "fp32", "f32", (2**24 - 1, 2**24 - 1)),
    Unit("fma_fp64", "fma.rn.f64", "fp64", "f64", (2**53 - 1, 2**53 - 1)),
    Unit("mad_int32", "mad.lo.u32", "u32", "u32", (2**32 - 1, 2**32 - 1)),
)

NAMES: Final = tuple(dict.fromkeys(unit.name for unit in UNITS))


def units_of(capability: Capability) -> tuple[Unit, ...]:
    """What a GPU of that compute capability has, one for each name at most."""
    return tuple(unit for unit in UNITS if unit.since <= capability < unit.before)


def lacking(name: str, capability: Capability) -> str:
    """Why a GPU of that compute capability has no such unit for us."""
    which = f"compute capability {capability[0]}.{capability[1]}"
    if capability < (7, 0):
        return f"not covered on {which}"
    if name.startswith("fp8") and capability >= (9, 0):
        return (
            f"not covered on {which}: mma.sync of fp8 is compiled to float16 products there, and "
            "its fp8 units answer to wgmma or tcgen05 alone"
        )
    if capability < (7, 5):
        return f"not covered on {which}: its tensor cores take m8n8k4 alone"
    return f"{which} has no tensor cores for {name}"
