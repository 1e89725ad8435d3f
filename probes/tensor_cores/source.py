"""The CUDA source: the instructions of the units, and the loops around them.

An instruction is a function of its own, so that the host can put another in its place: `own` is the
lane's cell, `row` those of all lanes, which the hardware reads from the other lanes' registers.
"""

from collections.abc import Sequence
from typing import Final

from probes.tensor_cores.problems import FACTOR, STEPS
from probes.tensor_cores.units import REPEATS, WIDTHS, Unit

KERNEL: Final = "exercise_units"

#: Threads of a block at most.
THREADS: Final = 256

#: Operands and right results of one lane in one step.
_TYPES: Final = """
typedef unsigned u32;
typedef unsigned long long u64;

struct alignas(16) Cell { u32 a[4], b[4], right[4]; };
"""

#: Where a warp is: its multiprocessor and its slot there. Both may change when it is preempted.
_PLACE: Final = """
__device__ u32 place() {
    u32 sm, warp;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    asm volatile("mov.u32 %0, %%warpid;" : "=r"(warp));
    return sm << 16 | (warp & 0xffff);
}
"""

_LOOPS: Final = f"""
template <class Unit>
__device__ void exercise(Unit unit, const Cell *cells, u32 passes, u32 lane, ulonglong2 *answer) {{
    u64 digest = 0;
    u32 even = 0, odd = 0;
#pragma unroll 1
    for (u32 pass = 0; pass < passes; pass++) {{
        u64 hash = 0;
#pragma unroll 1
        for (u32 step = 0; step < {STEPS}; step++) {{
            const Cell *row = cells + 32 * step;
            const Cell own = row[lane];
            u32 d[4];
#pragma unroll
            for (u32 i = 0; i < 4; i++) d[i] = Unit::START * (128 * step + 4 * lane + i + 1);
#pragma unroll
            for (u32 i = 0; i < {REPEATS}; i++) multiply(unit, d, own, row, lane);
#pragma unroll
            for (u32 i = 0; i < 4; i++) {{
                hash = (hash ^ d[i]) * {FACTOR:#x}ull;
                hash ^= hash >> 32;
            }}
            even |= (d[0] ^ own.right[0]) | (d[2] ^ own.right[2]);
            odd |= (d[1] ^ own.right[1]) | (d[3] ^ own.right[3]);
        }}
        digest = digest * {FACTOR:#x}ull + hash;
    }}
    answer->x = digest;
    answer->y = (u64)odd << 32 | even;
}}

extern "C" __global__ void __launch_bounds__({THREADS})
{KERNEL}(const Cell *cells, const u32 *kinds, u32 count, u32 shift, u32 passes,
               u32 *places, ulonglong2 *answers) {{
    u32 lane = threadIdx.x % 32;
    u32 warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    u32 kind = kinds[(warp + shift) % count];
    const Cell *own = cells + kind * {STEPS * 32}u;
    ulonglong2 *answer = answers + (u64)warp * 32 + lane;
    u32 before = place();
    switch (kind) {{
        CASES
    }}
    u32 after = place();
    if (lane == 0) {{
        places[2 * warp] = before;
        places[2 * warp + 1] = after;
    }}
}}
"""

#: Result -> its type in C, its letter in a constraint, from words and back.
_FLOATS: Final = {
    "f32": ("float", "f", "__uint_as_float(d[{i}])", "d[{i}] = __float_as_uint(d{i});"),
    "f64": (
        *("double", "d", "__hiloint2double(d[2 * {i} + 1], d[2 * {i}])"),
        "d[2 * {i}] = __double2loint(d{i}); d[2 * {i} + 1] = __double2hiint(d{i});",
    ),
    "s32": ("u32", "r", "d[{i}]", "d[{i}] = d{i};"),
    "u32": ("u32", "r", "d[{i}]", "d[{i}] = d{i};"),
}
_OPERANDS: Final = {
    "fp64": ("d", "__hiloint2double(own.{m}[2 * {i} + 1], own.{m}[2 * {i}])"),
    "fp32": ("f", "__uint_as_float(own.{m}[{i}])"),
}
_REGISTER: Final = ("r", "own.{m}[{i}]")


def source(units: Sequence[Unit], instructions: str | None = None) -> str:
    """The text of the kernel for these units, by default with the GPU's own instructions."""
    tags = "".join(
        f"struct {unit.name} {{ static const u32 START = {unit.start:#x}u; }};\n" for unit in units
    )
    if instructions is None:
        instructions = _PLACE + "".join(map(_instruction, units))
    cases = "\n        ".join(
        f"case {number}: exercise({unit.name}(), own, passes, lane, answer); break;"
        for number, unit in enumerate(units)
    )
    return _TYPES + tags + instructions + _LOOPS.replace("CASES", cases)


def _instruction(unit: Unit) -> str:
    """The function that issues one instruction, or one for each of a lane's results."""
    kind, letter, read, write = _FLOATS[unit.result]
    count = 8 * unit.rows // 32 if unit.depth else 128 // unit.bits
    body = [f"{kind} d{i} = {read.format(i=i)};" for i in range(count)]
    body += _matrix(unit, letter, count) if unit.depth else _scalars(unit, letter, count)
    body += [write.format(i=i) for i in range(count)]
    lines = "\n    ".join(body)
    head = f"__device__ void multiply({unit.name}, u32 *d, const Cell &own, const Cell *, u32)"
    return f"\n{head} {{\n    {lines}\n}}\n"


def _matrix(unit: Unit, letter: str, count: int) -> list[str]:
    """One mma.sync: D and C in the same registers."""
    sizes = [n * unit.depth // 32 // WIDTHS[unit.operand] for n in (unit.rows, 8)]
    groups, place = [], 0
    for each in (count, *sizes):
        groups.append("{" + ", ".join(f"%{place + i}" for i in range(each)) + "}")
        place += each
    d, a, b = groups
    own, value = _OPERANDS.get(unit.operand, _REGISTER)
    inputs = [
        f'"{own}"({value.format(m=m, i=i)})'
        for m, each in zip("ab", sizes, strict=True)
        for i in range(each)
    ]
    outputs = ", ".join(f'"+{letter}"(d{i})' for i in range(count))
    return [
        f'asm volatile("{unit.instruction} {d}, {a}, {b}, {d};"',
        f"    : {outputs} : {', '.join(inputs)});",
    ]


def _scalars(unit: Unit, letter: str, count: int) -> list[str]:
    """One multiply-add for each result; of integers the accumulator is multiplied."""
    own, value = _OPERANDS.get(unit.operand, _REGISTER)
    order = "%0, %1, %2" if unit.result == "u32" else "%1, %2, %0"
    return [
        f'asm volatile("{unit.instruction} %0, {order};" : "+{letter}"(d{i}) : '
        f'"{own}"({value.format(m="a", i=i)}), "{own}"({value.format(m="b", i=i)}));'
        for i in range(count)
    ]
