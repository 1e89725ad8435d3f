/* Stands in for the instructions of tensor cores and FMA units, and for the registers that say where
 * a warp is. Whole matrices are read from the registers of all lanes, as NVIDIA documents their
 * layout (which element of a matrix is where; the product's own source goes the other way), and
 * multiplied; each lane gets its own results.
 *
 * Faults: shim_plant() makes the results of one type wrong on some multiprocessor.
 */
#pragma once
#include <cmath>
#include <cstring>

/* ---- where a warp is, and what is wrong there */

static unsigned sms = 4;
static unsigned moves, reads;

static const char *planted_type = "";
static int planted_sm, planted_partition, planted_lane, planted_word, planted_every = 1;
static unsigned planted_mask, planted_calls;

extern "C" {
void shim_sms(unsigned count) { sms = count; }
/* Lets every warp change its slot while it runs, or none. */
void shim_moves(unsigned move) { moves = move; }
/* Flips bits of a word of the results of a type, in one of so many calls there; -1: everywhere. */
void shim_plant(const char *type, int sm, int partition, int lane, int word, unsigned mask,
                int every) {
    planted_type = strdup(type);
    planted_sm = sm, planted_partition = partition, planted_lane = lane, planted_word = word;
    planted_mask = mask, planted_every = every, planted_calls = 0;
}
}

static unsigned multiprocessor() { return blockIdx.x % sms; }

static unsigned slot() {
    return (blockIdx.x / sms * (blockDim.x / 32) + threadIdx.x / 32) % 64;
}

static u32 place() { return multiprocessor() << 16 | (slot() + (moves && reads++ % 2)); }

static void spoil(const char *type, u32 *d, u32 lane) {
    if (strcmp(type, planted_type)) return;
    if (planted_sm >= 0 && (unsigned)planted_sm != multiprocessor()) return;
    if (planted_partition >= 0 && (unsigned)planted_partition != slot() % 4) return;
    if (planted_lane >= 0 && (unsigned)planted_lane != lane) return;
    if (planted_calls++ % planted_every == 0) d[planted_word] ^= planted_mask;
}

/* ---- numbers */

static double small_float(unsigned bits, int exponents, int mantissas) {
    int exponent = bits >> mantissas & ((1 << exponents) - 1);
    int mantissa = bits & ((1 << mantissas) - 1);
    int power = (exponent ? exponent : 1) - ((1 << (exponents - 1)) - 1) - mantissas;
    double value = std::ldexp(mantissa + (exponent ? 1 << mantissas : 0), power);
    return bits >> (exponents + mantissas) & 1 ? -value : value;
}

static float as_float(u32 bits) { float value; memcpy(&value, &bits, 4); return value; }
static u32 as_word(float value) { u32 bits; memcpy(&bits, &value, 4); return bits; }
static double as_double(const u32 *words) { double value; memcpy(&value, words, 8); return value; }

/* How a type is stored, and how results are added. */
struct ToFloat {
    static void add(u32 *d, int i, double sum) { d[i] = as_word((float)(as_float(d[i]) + sum)); }
};
struct ToInt {
    static void add(u32 *d, int i, double sum) { d[i] += (u32)(int)sum; }
};
struct ToDouble {
    static void add(u32 *d, int i, double sum) {
        sum += as_double(d + 2 * i);
        memcpy(d + 2 * i, &sum, 8);
    }
};

struct fp16; struct bf16; struct tf32; struct int8; struct fp64; struct fp8_e4m3; struct fp8_e5m2;
template <class Type> struct Stored;
template <> struct Stored<fp16> : ToFloat {
    enum { WIDTH = 2 };
    static double at(const u32 *w, int i) { return small_float(w[i / 2] >> i % 2 * 16, 5, 10); }
};
template <> struct Stored<bf16> : ToFloat {
    enum { WIDTH = 2 };
    static double at(const u32 *w, int i) { return as_float(w[i / 2] >> i % 2 * 16 << 16); }
};
template <> struct Stored<tf32> : ToFloat {
    enum { WIDTH = 1 };
    static double at(const u32 *w, int i) { return as_float(w[i] & ~0x1fffu); }
};
template <> struct Stored<int8> : ToInt {
    enum { WIDTH = 4 };
    static double at(const u32 *w, int i) { return (signed char)(w[i / 4] >> i % 4 * 8); }
};
template <> struct Stored<fp64> : ToDouble {
    enum { WIDTH = 1 };
    static double at(const u32 *w, int i) { return as_double(w + 2 * i); }
};
template <> struct Stored<fp8_e4m3> : ToFloat {
    enum { WIDTH = 4 };
    static double at(const u32 *w, int i) { return small_float(w[i / 4] >> i % 4 * 8, 4, 3); }
};
template <> struct Stored<fp8_e5m2> : ToFloat {
    enum { WIDTH = 4 };
    static double at(const u32 *w, int i) { return small_float(w[i / 4] >> i % 4 * 8, 5, 2); }
};

/* ---- matrices */

/* The product of the matrices in the registers of 32 lanes. */
template <class Type, int ROWS, int DEPTH> struct Product {
    Cell cells[32];
    double sum[16][8];
    bool known;

    void of(const Cell *row) {
        if (known && !memcmp(cells, row, sizeof cells)) return;
        const int width = Stored<Type>::WIDTH, quarter = 4 * width;
        memcpy(cells, row, sizeof cells);
        known = true;
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < 8; j++) {
                sum[i][j] = 0;
                for (int k = 0; k < DEPTH; k++) {
                    int member = k / width % 4, in_a = k / quarter;
                    if (ROWS == 16) in_a = 2 * in_a + i / 8;
                    sum[i][j] +=
                        Stored<Type>::at(row[i % 8 * 4 + member].a, in_a * width + k % width) *
                        Stored<Type>::at(row[j * 4 + member].b, k / quarter * width + k % width);
                }
            }
    }
};

template <class Type, int ROWS, int DEPTH> static void product(u32 *d, const Cell *row, u32 lane) {
    static Product<Type, ROWS, DEPTH> kept[64];
    Product<Type, ROWS, DEPTH> &found = kept[(std::size_t)row / sizeof found.cells % 64];
    found.of(row);
    for (int i = 0; i < ROWS / 4; i++)
        Stored<Type>::add(d, i, found.sum[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
}

#define TENSOR_CORE(type, rows, depth)                                            \
    static void multiply(type, u32 *d, const Cell &, const Cell *row, u32 lane) { \
        product<type, rows, depth>(d, row, lane);                                 \
        spoil(#type, d, lane);                                                    \
    }

/* ---- scalars */

static double scalar(const u32 *words, int i) { return as_double(words + 2 * i); }

#define FMA_FP32(type)                                                                     \
    static void multiply(type, u32 *d, const Cell &own, const Cell *, u32 lane) {          \
        for (int i = 0; i < 4; i++)                                                        \
            d[i] = as_word(std::fma(as_float(own.a[i]), as_float(own.b[i]), as_float(d[i]))); \
        spoil(#type, d, lane);                                                             \
    }
#define FMA_FP64(type)                                                                     \
    static void multiply(type, u32 *d, const Cell &own, const Cell *, u32 lane) {          \
        for (int i = 0; i < 2; i++) {                                                      \
            double value = std::fma(scalar(own.a, i), scalar(own.b, i), scalar(d, i));     \
            memcpy(d + 2 * i, &value, 8);                                                  \
        }                                                                                  \
        spoil(#type, d, lane);                                                             \
    }
#define MAD_INT32(type)                                                                    \
    static void multiply(type, u32 *d, const Cell &own, const Cell *, u32 lane) {          \
        for (int i = 0; i < 4; i++) d[i] = d[i] * own.a[i] + own.b[i];                     \
        spoil(#type, d, lane);                                                             \
    }
