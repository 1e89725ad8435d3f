/* NVIDIA's management library without a GPU, controlled by environment variables.
 *
 * FAKE_NVML_INIT       what nvmlInitWithFlags returns (default 0)
 * FAKE_NVML_COUNT      number of GPUs (default 1)
 * FAKE_NVML_LOST       index of a GPU whose handle cannot be read
 * FAKE_NVML_LOST_CODE  the code for that (default 15, GPU is lost)
 * FAKE_NVML_REFUSES    name of a function that returns FAKE_NVML_CODE (default 999)
 * FAKE_NVML_PROCESSES  process ids that compute, as "123,456"; "self" is the caller
 * FAKE_NVML_GRAPHICS   process ids with graphics, in the same form; `9:300` has 300 MiB, `9:?` an unknown size
 * FAKE_NVML_MPS        process ids that compute through the server of MPS, in the same form
 * FAKE_NVML_PROCESSES_FILE  a file with those that compute, read anew at each question
 * FAKE_NVML_HANG_FILE  while this file is there, a question for processes has no answer
 * FAKE_NVML_USE        utilization in percent (default 0)
 * FAKE_NVML_MODE       compute mode (default 0)
 * FAKE_NVML_MIG        1: MIG is on, with one instance in slot 1 of 7
 * FAKE_NVML_SLOTS      the slots that hold an instance, as "0,1,5"; empty: none (default "1")
 * FAKE_NVML_WHOLE      index of a GPU on which MIG is off nevertheless
 * FAKE_NVML_CC         1: confidential computing is on
 * FAKE_NVML_OLD        1: no second layout of memory and no third of processes
 * FAKE_NVML_TEMPERATURE  of the first GPU, each next is a degree warmer; without it none is told
 * FAKE_NVML_EVENT      code of an error event of the last GPU, once; other waits run out
 * FAKE_NVML_DAMAGED    1: every question about health is answered with damage
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUCCESS 0
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define FUNCTION_NOT_FOUND 13
#define GPU_IS_LOST 15

typedef unsigned long long u64;

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static int code(const char *function) {
    const char *name = getenv("FAKE_NVML_REFUSES");
    return name && strcmp(name, function) == 0 ? number("FAKE_NVML_CODE", 999) : SUCCESS;
}

#define MAY_REFUSE() \
    do { if (code(__func__)) return code(__func__); } while (0)

/* Handles: 100 + index of a GPU; of an instance on it 1000 * (1 + slot) + 200 + index. */
static int index_of(u64 handle) { return (int)(handle % 100); }

int nvmlInitWithFlags(unsigned flags) { (void)flags; return number("FAKE_NVML_INIT", 0); }

int nvmlInit(void) { return nvmlInitWithFlags(0); } /* the name that torch asks for */

int nvmlShutdown(void) {
    const char *file = getenv("FAKE_NVML_SHUTDOWN_FILE"); /* proof that it was called */
    FILE *out = file ? fopen(file, "w") : NULL;
    if (out) fclose(out);
    MAY_REFUSE();
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    MAY_REFUSE();
    snprintf(text, length, "550.54.15");
    return SUCCESS;
}

int nvmlSystemGetConfComputeState(unsigned *state) { /* environment, feature, developer tools */
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    state[0] = state[2] = 0;
    state[1] = (unsigned)number("FAKE_NVML_CC", 0);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    MAY_REFUSE();
    *count = number("FAKE_NVML_COUNT", 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, u64 *handle) {
    MAY_REFUSE();
    if (number("FAKE_NVML_LOST", -1) == (int)index) return number("FAKE_NVML_LOST_CODE", GPU_IS_LOST);
    *handle = 100 + index;
    return SUCCESS;
}

int nvmlDeviceGetUUID(u64 handle, char *text, unsigned length) {
    MAY_REFUSE();
    int first = handle >= 200 ? 0xa0 : 0;
    int n = snprintf(text, length, handle >= 200 ? "MIG-" : "GPU-");
    for (int i = 0; i < 16; i++) {
        int slot = handle >= 1000 ? (int)(handle / 1000) - 1 : 1;
        int byte = i == 15 ? index_of(handle) : i == 14 && first ? 0xad + slot : i + first;
        n += snprintf(text + n, length - n, "%02x%s", byte,
                      i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
    }
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, u64 *handle) {
    MAY_REFUSE();
    for (unsigned index = 0; index < (unsigned)number("FAKE_NVML_COUNT", 1); index++) {
        char text[80];
        nvmlDeviceGetUUID(100 + index, text, sizeof text);
        *handle = 100 + index;
        if (strcmp(text, uuid) == 0) return SUCCESS;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetTemperature(u64 handle, int sensor, unsigned *degrees) {
    MAY_REFUSE();
    (void)sensor;
    if (!number("FAKE_NVML_TEMPERATURE", 0)) return FUNCTION_NOT_FOUND;
    *degrees = number("FAKE_NVML_TEMPERATURE", 0) + index_of(handle);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(u64 handle, char *info) {
    MAY_REFUSE();
    memset(info, 0, 68); /* busIdLegacy[16], five numbers, busId[32] */
    snprintf(info + 36, 32, "00000000:%02X:00.0", 0x0a + index_of(handle));
    return SUCCESS;
}

int nvmlDeviceGetName(u64 handle, char *text, unsigned length) {
    MAY_REFUSE();
    snprintf(text, length, "Fake GPU%s", handle >= 200 ? " MIG 1g.10gb" : "");
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(u64 handle, u64 *memory) {
    MAY_REFUSE();
    memory[0] = (handle >= 200 ? 2048ull : 16384ull) << 20; /* total, free, used */
    memory[1] = (handle >= 200 ? 2000ull : 15000ull) << 20;
    memory[2] = memory[0] - memory[1];
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(u64 handle, u64 *memory) {
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    memory[1] = 16384ull << 20; /* version, total, reserved, free, used */
    memory[2] = 384ull << 20;
    memory[3] = 15000ull << 20;
    memory[4] = memory[1] - memory[2] - memory[3];
    return SUCCESS;
}

struct rates { unsigned gpu, memory; };

int nvmlDeviceGetUtilizationRates(u64 handle, struct rates *rates) {
    MAY_REFUSE();
    rates->gpu = number("FAKE_NVML_USE", 0);
    rates->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(u64 handle, unsigned *milliwatts) {
    MAY_REFUSE();
    *milliwatts = 345600;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(u64 handle, int kind, unsigned *mhz) {
    MAY_REFUSE();
    *mhz = kind == 1 ? 1755 : 2619;
    return SUCCESS;
}

struct process { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; };

static int processes(const char *variable, unsigned *count, struct process *out) {
    const char *text = getenv(variable);
    unsigned room = *count, n = 0;
    char copy[256];
    snprintf(copy, sizeof copy, "%s", text ? text : "");
    const char *path = getenv("FAKE_NVML_PROCESSES_FILE"), *stuck = getenv("FAKE_NVML_HANG_FILE");
    FILE *in = path && strcmp(variable, "FAKE_NVML_PROCESSES") == 0 ? fopen(path, "r") : NULL;
    if (in) {
        if (!fgets(copy, sizeof copy, in)) copy[0] = 0;
        fclose(in);
    }
    while (stuck && access(stuck, F_OK) == 0) usleep(10000);
    for (char *part = strtok(copy, ","); part; part = strtok(NULL, ","), n++) {
        char *mib = strchr(part, ':');
        u64 used = mib ? (u64)atoll(mib + 1) << 20 : 1 << 20;
        if (mib && !strcmp(mib, ":?")) used = ~(u64)0; /* NVML_VALUE_NOT_AVAILABLE */
        if (out && n < room)
            out[n] = (struct process){strncmp(part, "self", 4) ? (unsigned)atoi(part)
                                                               : (unsigned)getpid(), used, 0, 0};
    }
    *count = n;
    return n > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(u64 handle, unsigned *count, struct process *out) {
    MAY_REFUSE();
    return processes("FAKE_NVML_PROCESSES", count, out);
}

int nvmlDeviceGetComputeRunningProcesses_v3(u64 handle, unsigned *count, struct process *out) {
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    return processes("FAKE_NVML_PROCESSES", count, out);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(u64 handle, unsigned *count, struct process *out) {
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    return processes("FAKE_NVML_MPS", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(u64 handle, unsigned *count, struct process *out) {
    MAY_REFUSE();
    return processes("FAKE_NVML_GRAPHICS", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(u64 handle, unsigned *count, struct process *out) {
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    return processes("FAKE_NVML_GRAPHICS", count, out);
}

int nvmlDeviceGetComputeMode(u64 handle, int *mode) {
    MAY_REFUSE();
    *mode = number("FAKE_NVML_MODE", 0);
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(u64 handle, int *major, int *minor) {
    MAY_REFUSE();
    *major = 9;
    *minor = 1;
    return SUCCESS;
}

int nvmlDeviceGetMinorNumber(u64 handle, unsigned *minor) {
    MAY_REFUSE();
    *minor = index_of(handle);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(u64 handle, unsigned *current, unsigned *pending) {
    MAY_REFUSE();
    if (number("FAKE_NVML_MIG", -1) < 0) return NOT_SUPPORTED;
    int whole = number("FAKE_NVML_WHOLE", -1) == index_of(handle);
    *current = *pending = whole ? 0 : number("FAKE_NVML_MIG", 0);
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(u64 handle, unsigned *count) {
    MAY_REFUSE();
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(u64 handle, unsigned slot, u64 *instance) {
    MAY_REFUSE();
    const char *slots = getenv("FAKE_NVML_SLOTS");
    char wanted = (char)('0' + slot);
    if (!strchr(slots ? slots : "1", wanted)) return NOT_FOUND;
    *instance = 1000 * (1 + (u64)slot) + 200 + index_of(handle);
    return SUCCESS;
}

static int damaged(void) { return number("FAKE_NVML_DAMAGED", 0); }

int nvmlDeviceGetEccMode(u64 handle, unsigned *current, unsigned *pending) {
    MAY_REFUSE();
    *current = 1;
    *pending = !damaged();
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(u64 handle, int kind, int counter, u64 *count) {
    MAY_REFUSE();
    *count = damaged() ? 10 * kind + counter + 1 : 0;
    return SUCCESS;
}

struct sram { unsigned version; u64 counts[11]; unsigned exceeded; };

int nvmlDeviceGetSramEccErrorStatus(u64 handle, struct sram *status) {
    MAY_REFUSE();
    for (int i = 0; i < 11; i++) status->counts[i] = damaged() ? 1u << i : 0;
    status->exceeded = damaged();
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(u64 handle, unsigned *corrected, unsigned *uncorrected,
                              unsigned *pending, unsigned *failed) {
    MAY_REFUSE();
    *corrected = 2 * damaged();
    *uncorrected = *pending = *failed = damaged();
    return SUCCESS;
}

int nvmlDeviceGetRowRemapperHistogram(u64 handle, unsigned *banks) {
    MAY_REFUSE();
    banks[0] = 100;
    banks[1] = banks[2] = banks[3] = 0;
    banks[4] = 7 * damaged();
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(u64 handle, u64 *reasons) {
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    *reasons = damaged() ? 0x88 : 0;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(u64 handle, u64 *reasons) {
    MAY_REFUSE();
    *reasons = damaged() ? 0x88 : 0;
    return SUCCESS;
}

struct violation { u64 reference, violated; };

int nvmlDeviceGetViolationStatus(u64 handle, int policy, struct violation *time) {
    MAY_REFUSE();
    time->reference = 0;
    time->violated = damaged() ? 2500000000ull : 0;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkState(u64 handle, unsigned link, unsigned *active) {
    MAY_REFUSE();
    if (link >= 4) return 2; /* invalid argument */
    *active = !(damaged() && link == 2);
    return SUCCESS;
}

struct fabric { unsigned version; unsigned char uuid[16]; int status; unsigned clique;
                unsigned char state; unsigned health; };

int nvmlDeviceGetGpuFabricInfoV(u64 handle, struct fabric *fabric) {
    MAY_REFUSE();
    if (number("FAKE_NVML_OLD", 0)) return FUNCTION_NOT_FOUND;
    fabric->state = 3;
    fabric->status = damaged() ? 999 : 0;
    fabric->health = damaged() ? 0x129 : 0x12a;
    return SUCCESS;
}

int nvmlDeviceValidateInforom(u64 handle) {
    MAY_REFUSE();
    return damaged() ? 14 : SUCCESS;
}

struct event { u64 device, type, data; unsigned gpu_instance, compute_instance; };

int nvmlEventSetCreate(u64 *set) {
    MAY_REFUSE();
    *set = 77;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(u64 handle, u64 types, u64 set) {
    MAY_REFUSE();
    return types == 8 && set == 77 ? SUCCESS : 2;
}

int nvmlEventSetWait_v2(u64 set, struct event *event, unsigned milliseconds) {
    static int told = 0;
    MAY_REFUSE();
    if (told++ || !number("FAKE_NVML_EVENT", 0)) {
        usleep(milliseconds * 1000);
        return 10; /* timeout */
    }
    *event = (struct event){100 + number("FAKE_NVML_COUNT", 1) - 1, 8,
                            number("FAKE_NVML_EVENT", 0), ~0u, ~0u};
    return SUCCESS;
}

int nvmlEventSetFree(u64 set) { MAY_REFUSE(); return SUCCESS; }

struct field { unsigned id, scope; long long timestamp, latency; unsigned type; int result;
               union { unsigned ui; u64 ull; } value; };

int nvmlDeviceGetFieldValues(u64 handle, int count, struct field *fields) {
    MAY_REFUSE();
    for (int i = 0; i < count; i++) {
        struct field *field = &fields[i];
        field->result = NOT_SUPPORTED;
        if (field->id != 230 && field->id != 82) continue; /* recovery action, memory temperature */
        field->result = SUCCESS;
        field->type = 1; /* unsigned int */
        field->value.ull = 0xffffffff00000000ull;
        field->value.ui = field->id == 82 ? 55 : damaged();
    }
    return SUCCESS;
}
