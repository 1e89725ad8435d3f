"""The CUDA source of the two kernels: one writes a pattern, one checks it."""

from typing import Final

from probes.kit.memory_test.words import FIRST_FACTOR, SECOND_FACTOR, SHIFT

#: 16 bytes a load; each thread strides over the grid; every index has 64 bits. A thread tells how
#: many words it has checked, so that one that never ran is seen.
SOURCE: Final = f"""
typedef unsigned long long u64;

__device__ u64 word(u64 index, u64 hashed, u64 seed, u64 mask) {{
    u64 x = (index ^ seed) * {FIRST_FACTOR:#x}ull;
    x = (x ^ (x >> {SHIFT})) * {SECOND_FACTOR:#x}ull;
    x ^= x >> {SHIFT};
    return (hashed ? x : 0) ^ mask;
}}

extern "C" __global__ void write_words(ulonglong2 *block, u64 pairs, u64 first,
                                       u64 hashed, u64 seed, u64 mask) {{
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < pairs; i += step) {{
        ulonglong2 both;
        both.x = word(first + 2 * i, hashed, seed, mask);
        both.y = word(first + 2 * i + 1, hashed, seed, mask);
        block[i] = both;
    }}
}}

__device__ void report(u64 *found, u64 room, u64 index, u64 bits) {{
    if (found[0] >= room) return;
    u64 slot = atomicAdd(found, 1ull);
    if (slot >= room) return;
    found[1 + 2 * slot] = index;
    found[2 + 2 * slot] = bits;
}}

extern "C" __global__ void check_words(const ulonglong2 *block, u64 pairs, u64 first,
                                       u64 hashed, u64 seed, u64 mask,
                                       unsigned *counts, u64 *found, u64 room) {{
    u64 thread = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u64 step = (u64)gridDim.x * blockDim.x;
    unsigned checked = 0, wrong = 0;
    for (u64 i = thread; i < pairs; i += step) {{
        ulonglong2 both = block[i];
        u64 x = both.x ^ word(first + 2 * i, hashed, seed, mask);
        u64 y = both.y ^ word(first + 2 * i + 1, hashed, seed, mask);
        checked += 2;
        if (x) {{ wrong++; report(found, room, 2 * i, x); }}
        if (y) {{ wrong++; report(found, room, 2 * i + 1, y); }}
    }}
    counts[2 * thread] = checked;
    counts[2 * thread + 1] = wrong;
}}
"""
