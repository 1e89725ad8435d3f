/* The part of libcuda that launches kernels, for kernels built for the host by shim.h.
 *
 * The file that includes this has defined KERNELS(ENTRY): ENTRY(name) for each kernel.
 */
#include <cstring>
#include <cstdint>

typedef void (*Launcher)(unsigned blocks, unsigned threads, void **arguments);

#define LAUNCHER(name)                                                              \
    static void launch_##name(unsigned blocks, unsigned threads, void **arguments) { \
        launch(name, blocks, threads, arguments);                                    \
    }
KERNELS(LAUNCHER)

struct Kernel { const char *name; Launcher launcher; };
#define ENTRY(name) {#name, launch_##name},
static const Kernel kernels[] = {KERNELS(ENTRY)};

static const char *refused = "";
static int refusal = 0;
/* Contexts of devices 0 and 1; the thread's own, and those that it had before. */
static int contexts[2] = {0, 1};
static int *stack[8] = {&contexts[0]};
static int depth = 0;
static int module;
static const int *of_module;
static uint64_t last[10];

#define MAY_REFUSE() \
    do { if (!strcmp(refused, __func__)) return refusal; } while (0)

extern "C" {

/* Makes a function return a code from now on; "" none. */
void shim_refuse(const char *function, int code) { refused = strdup(function); refusal = code; }
/* The thread's context: that of a device; -1 none. */
void shim_context(int device) { depth = 0; stack[0] = device < 0 ? nullptr : &contexts[device]; }
/* What memory does wrong from now on, see `Fault`. */
void shim_sick(int fault, Word *at, Word *other, Word mask, long times) {
    sick = {fault, at, other, mask, times};
}
/* Grid, block, shared memory and stream of the last launch. */
const uint64_t *shim_last(void) { return last; }

int cuCtxGetCurrent(void **found) {
    MAY_REFUSE();
    *found = stack[depth];
    return 0;
}

int cuCtxGetDevice(int *device) {
    MAY_REFUSE();
    if (!stack[depth]) return 201;
    *device = *stack[depth];
    return 0;
}

int cuCtxPushCurrent_v2(void *context) {
    MAY_REFUSE();
    stack[++depth] = (int *)context;
    return 0;
}

int cuCtxPopCurrent_v2(void **context) {
    MAY_REFUSE();
    *context = stack[depth--];
    return 0;
}

int cuModuleLoadData(void **found, const char *image) {
    MAY_REFUSE();
    if (memcmp(image, "\x7f" "ELF", 4)) return 200;
    *found = &module;
    of_module = stack[depth];
    return 0;
}

int cuModuleGetFunction(void **found, void *in, const char *name) {
    MAY_REFUSE();
    if (in != &module || of_module != stack[depth]) return 400;
    for (const Kernel &kernel : kernels)
        if (!strcmp(kernel.name, name)) { *found = (void *)&kernel; return 0; }
    return 500;
}

int cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    MAY_REFUSE();
    if (of_module != stack[depth]) return 400;
    if (!gx || gy != 1 || gz != 1 || !bx || by != 1 || bz != 1 || bx > 1024 || extra) return 1;
    const uint64_t seen[] = {gx, gy, gz, bx, by, bz, shared, (uint64_t)stream};
    memcpy(last, seen, sizeof seen);
    ((const Kernel *)kernel)->launcher(gx, bx, arguments);
    return 0;
}

int cuGetErrorName(int code, const char **text) {
    *text = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_SOMETHING";
    return code == 12345 ? 1 : 0;
}

int cuGetErrorString(int code, const char **text) {
    *text = code == 700 ? "an illegal memory access was encountered" : "something";
    return code == 12345 ? 1 : 0;
}
}
