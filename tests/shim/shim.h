/* Lets a C++ compiler build CUDA kernels for the host: each thread of each block runs in turn.
 *
 * For kernels without shared memory and barriers; atomics are plain operations.
 */
#pragma once
#include <utility>

#define __global__
#define __device__ static inline
#define __restrict__
#define __launch_bounds__(...)

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

struct ulonglong2 { unsigned long long x, y; };

static inline unsigned long long atomicAdd(unsigned long long *place, unsigned long long value) {
    unsigned long long before = *place;
    *place += value;
    return before;
}

template <class... Types, std::size_t... I>
static void call(void (*kernel)(Types...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<Types *>(arguments[I])...);
}

/* Runs a kernel with arguments as cuLaunchKernel takes them. */
template <class... Types>
static void launch(void (*kernel)(Types...), unsigned blocks, unsigned threads, void **arguments) {
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    for (unsigned block = 0; block < blocks; block++)
        for (unsigned thread = 0; thread < threads; thread++) {
            blockIdx = {block, 0, 0};
            threadIdx = {thread, 0, 0};
            call(kernel, arguments, std::index_sequence_for<Types...>{});
        }
}
