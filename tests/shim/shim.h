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

typedef unsigned long long Word;

/* What memory does wrong, if anything: at one word, and to another one. */
enum Fault { NONE, STUCK_AT_0, STUCK_AT_1, NO_RISE, NO_FALL, LOST, COUPLED, ALIASED, MISREAD };
struct Sick { int fault; Word *at, *other; Word mask; long left; };
static Sick sick;

static inline void store(Word *place, Word value) {
    if (sick.fault == NONE) { *place = value; return; }
    if (sick.fault == ALIASED && place == sick.other) place = sick.at;
    Word before = *place;
    if (place == sick.at) switch (sick.fault) {
        case STUCK_AT_0: value &= ~sick.mask; break;
        case STUCK_AT_1: value |= sick.mask; break;
        case NO_RISE: value &= ~(sick.mask & ~before); break;
        case NO_FALL: value |= sick.mask & before; break;
        case LOST: if (sick.left) { sick.left -= sick.left > 0; return; } break;
        case COUPLED: *sick.other ^= sick.mask & (value ^ before); break;
    }
    *place = value;
}

static inline Word load(const Word *place) {
    if (sick.fault == NONE) return *place;
    if (sick.fault == ALIASED && place == sick.other) place = sick.at;
    bool wrong = sick.fault == MISREAD && place == sick.at && sick.left;
    if (wrong) sick.left -= sick.left > 0;
    return wrong ? *place ^ sick.mask : *place;
}

/* 16 bytes that kernels load and store at once: both ways lead through the memory's faults. */
struct ulonglong2 {
    Word x, y;
    ulonglong2() = default;
    ulonglong2(const ulonglong2 &from) : x(load(&from.x)), y(load(&from.y)) {}
    ulonglong2 &operator=(const ulonglong2 &from) {
        store(&x, from.x);
        store(&y, from.y);
        return *this;
    }
};

static inline Word atomicAdd(Word *place, Word value) {
    Word before = *place;
    *place += value;
    return before;
}

static inline Word atomicOr(Word *place, Word value) {
    Word before = *place;
    *place |= value;
    return before;
}

static inline Word atomicMin(Word *place, Word value) {
    Word before = *place;
    if (value < before) *place = value;
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
