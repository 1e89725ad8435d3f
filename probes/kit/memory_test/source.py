"""The CUDA source of the two kernels: one writes a pattern, one checks it."""

from typing import Final

from probes.kit.memory_test.words import FIRST_FACTOR, SECOND_FACTOR, SHIFT

#: Numbers before the words that are told: how many, all bits, the least index.
HEADER: Final = 3

#: 16 bytes a load; each thread strides over the grid; every index has 64 bits. A thread tells how
#: many words it has checked, so that one that never ran is seen. `found` holds how many words were
#: told, all bits that differ, the least index, and then the index and the bits of each told word.
#: The check's loads are answered by the second-level cache where that holds the words: no load
#: passes it by, so that what is to be read from memory must be more than the cache holds.
SOURCE: Final = f"""
typedef unsigned long long u64;

__device__ u64 word(u64 index, u64 hashed, u64 seed, u64 mask) {{
    u64 x = (index ^ seed) * {FIRST_FACTOR:#x}ull;
    x = (x ^ (x >> {SHIFT})) * {SECOND_FACTOR:#x}ull;
    x ^= x >> {SHIFT};
    return (hashed ? x : 0) ^ mask;
}}

extern "C" __global__ void write_words(ulonglong2 *block, u64 pairs, u64 first,
                                       u64 hashed, u64 seed, u64 mask, u64 downwards) {{
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < pairs; i += step) {{
        u64 at = downwards ? pairs - 1 - i : i;
        ulonglong2 both;
        both.x = word(first + 2 * at, hashed, seed, mask);
        both.y = word(first + 2 * at + 1, hashed, seed, mask);
        block[at] = both;
    }}
}}

__device__ void report(u64 *found, u64 room, u64 index, u64 bits) {{
    if (found[0] >= room) return;
    u64 slot = atomicAdd(found, 1ull);
    if (slot >= room) return;
    found[{HEADER} + 2 * slot] = index;
    found[{HEADER} + 2 * slot + 1] = bits;
}}

extern "C" __global__ void check_words(const ulonglong2 *block, u64 pairs, u64 first,
                                       u64 hashed, u64 seed, u64 mask,
                                       unsigned *counts, u64 *found, u64 room) {{
    u64 thread = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u64 step = (u64)gridDim.x * blockDim.x;
    u64 bits = 0, least = ~0ull;
    unsigned checked = 0, wrong = 0;
    for (u64 i = thread; i < pairs; i += step) {{
        ulonglong2 both = block[i];
        u64 x = both.x ^ word(first + 2 * i, hashed, seed, mask);
        u64 y = both.y ^ word(first + 2 * i + 1, hashed, seed, mask);
        checked += 2;
        if (x) {{ wrong++; report(found, room, 2 * i, x); }}
        if (y) {{ wrong++; report(found, room, 2 * i + 1, y); }}
        if ((x || y) && least == ~0ull) least = 2 * i + !x;
        bits |= x | y;
    }}
    counts[2 * thread] = checked;
    counts[2 * thread + 1] = wrong;
    if (wrong) {{
        atomicOr(found + 1, bits);
        atomicMin(found + 2, least);
    }}
}}
"""
