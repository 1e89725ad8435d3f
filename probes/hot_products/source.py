"""The CUDA source of the kernel that compares a result with the rows that it repeats."""

from typing import Final

#: 8-byte words told of a wrong place: product, row, word of the row, bits, bits when read again.
FIELDS: Final = 5

#: 16 bytes a load, the last row first, which is likely in the cache still. The right rows repeat
#: and stay in the cache. Each thread tells how many words it has compared, so that one that never
#: ran is seen.
SOURCE: Final = f"""
typedef unsigned long long u64;

__device__ void report(u64 *found, u64 room, u64 product, u64 row, u64 word, u64 bits,
                       const volatile u64 *result, const volatile u64 *right) {{
    u64 slot = atomicAdd(found, 1ull);
    if (slot >= room) return;
    u64 *told = found + 1 + {FIELDS} * slot;
    told[0] = product;
    told[1] = row;
    told[2] = word;
    told[3] = bits;
    told[4] = *result ^ *right;
}}

extern "C" __global__ void compare_rows(const ulonglong2 *result, const ulonglong2 *right,
                                        u64 rows, u64 pairs, u64 first, u64 period, u64 product,
                                        unsigned *counts, u64 *found, u64 room) {{
    u64 thread = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned compared = 0;
    for (u64 turn = blockIdx.x; turn < rows; turn += gridDim.x) {{
        u64 row = rows - 1 - turn;
        const ulonglong2 *have = result + row * pairs;
        const ulonglong2 *want = right + (row + first) % period * pairs;
        for (u64 i = threadIdx.x; i < pairs; i += blockDim.x) {{
            ulonglong2 one = have[i], other = want[i];
            u64 x = one.x ^ other.x, y = one.y ^ other.y;
            compared += 2;
            if (x) report(found, room, product, row, 2 * i, x,
                          (const u64 *)(have + i), (const u64 *)(want + i));
            if (y) report(found, room, product, row, 2 * i + 1, y,
                          (const u64 *)(have + i) + 1, (const u64 *)(want + i) + 1);
        }}
    }}
    counts[thread] += compared;
}}
"""
