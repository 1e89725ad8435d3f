/* A CUDA driver without a GPU, controlled by environment variables.
 *
 * FAKE_CUDA_INIT     what cuInit returns (default 0)
 * FAKE_CUDA_COUNT    number of devices (default 1)
 * FAKE_CUDA_VERSION  what cuDriverGetVersion returns (default 12040)
 * FAKE_CUDA_MIG      1: the devices are MIG instances
 *
 * CUDA_VISIBLE_DEVICES with one UUID gives the first device that UUID, as the real driver does.
 *
 * FAKE_CUDA_ATTRIBUTES  numbers of attributes that are 1, as "18,133"; the others are 0
 * FAKE_CUDA_OLD      1: the driver knows no attribute above 125, as before CUDA 12
 * FAKE_CUDA_REFUSES  name of a function that returns 999
 * FAKE_CUDA_HANG     1: cuInit never returns
 * FAKE_CUDA_SIGNAL   number of a signal that cuInit dies by
 *
 * For a function that is missing here cuGetProcAddress gives a stand-in that returns cuInit's code.
 * That is enough for torch's start to reach its own error messages.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUCCESS 0
#define NO_DEVICE 100
#define INVALID_DEVICE 101
#define UNKNOWN 999

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static int listed(const char *name, int wanted) {
    const char *text = getenv(name);
    for (; text && *text; text = strchr(text, ',') ? strchr(text, ',') + 1 : "")
        if (atoi(text) == wanted) return 1;
    return 0;
}

static int refuses(const char *function) {
    const char *name = getenv("FAKE_CUDA_REFUSES");
    return name && strcmp(name, function) == 0;
}

#define ANSWERS(device)                                                   \
    do {                                                                  \
        if (refuses(__func__)) return UNKNOWN;                            \
        if (number("FAKE_CUDA_INIT", 0)) return number("FAKE_CUDA_INIT", 0); \
        if ((device) < 0 || (device) >= number("FAKE_CUDA_COUNT", 1)) return INVALID_DEVICE; \
    } while (0)

int cuInit(unsigned flags) {
    (void)flags;
    while (number("FAKE_CUDA_HANG", 0)) pause();
    if (number("FAKE_CUDA_SIGNAL", 0)) raise(number("FAKE_CUDA_SIGNAL", 0));
    return refuses(__func__) ? UNKNOWN : number("FAKE_CUDA_INIT", 0);
}

int cuDriverGetVersion(int *version) {
    if (refuses(__func__)) return UNKNOWN;
    *version = number("FAKE_CUDA_VERSION", 12040);
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    if (refuses(__func__)) return UNKNOWN;
    if (number("FAKE_CUDA_INIT", 0)) return number("FAKE_CUDA_INIT", 0);
    *count = number("FAKE_CUDA_COUNT", 1);
    return SUCCESS;
}

/* Handles are 10, 11, ... so that an index in the place of a handle is an error. */
int cuDeviceGet(int *device, int index) {
    ANSWERS(index);
    *device = index + 10;
    return SUCCESS;
}

int cuDeviceGetName(char *name, int length, int device) {
    ANSWERS(device - 10);
    snprintf(name, length, "Fake GPU%s", number("FAKE_CUDA_MIG", 0) ? " MIG 1g.10gb" : "");
    return SUCCESS;
}

int cuDeviceGetPCIBusId(char *address, int length, int device) {
    ANSWERS(device - 10);
    snprintf(address, length, "0000:%02X:00.0", 0x0a + device - 10);
    return SUCCESS;
}

/* Reads the UUID in CUDA_VISIBLE_DEVICES if it begins with that kind; 0 if it does not. */
static int shown(const char *kind, char *uuid) {
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    if (!text || strncmp(text, kind, 4) || strchr(text, ',')) return 0;
    int n = 0;
    for (text += 4; *text && n < 16; text += *text == '-' ? 1 : 0) {
        unsigned byte;
        if (*text == '-') continue;
        if (sscanf(text, "%2x", &byte) != 1) return 0;
        uuid[n++] = (char)byte;
        text += 2;
    }
    return n == 16;
}

static void identify(char *uuid, int device, int instance) {
    if (device == 10 && shown(instance ? "MIG-" : "GPU-", uuid)) return;
    for (int i = 0; i < 16; i++) uuid[i] = (char)(i + (instance ? 0xa0 : 0));
    uuid[15] = (char)(device - 10);
}

int cuDeviceGetUuid(char *uuid, int device) {
    ANSWERS(device - 10);
    identify(uuid, device, 0);
    return SUCCESS;
}

int cuDeviceGetUuid_v2(char *uuid, int device) {
    ANSWERS(device - 10);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int whole = visible && strncmp(visible, "GPU-", 4) == 0;
    identify(uuid, device, number("FAKE_CUDA_MIG", 0) && !whole);
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    ANSWERS(device - 10);
    *bytes = (size_t)16000 << 20;
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    ANSWERS(device - 10);
    if (number("FAKE_CUDA_OLD", 0) && attribute > 125) return 1; /* invalid value */
    *value = attribute == 75 ? 9 : attribute == 76 ? 1 : listed("FAKE_CUDA_ATTRIBUTES", attribute);
    return SUCCESS;
}

static int stand_in(void) {
    int code = number("FAKE_CUDA_INIT", 0);
    return code ? code : number("FAKE_CUDA_COUNT", 1) ? UNKNOWN : NO_DEVICE;
}

int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
    (void)version;
    (void)flags;
    void *own = dlsym(RTLD_DEFAULT, symbol);
    Dl_info there, here;
    int ours = own && dladdr(own, &there) && dladdr((void *)cuInit, &here) &&
               there.dli_fbase == here.dli_fbase;
    *function = ours ? own : (void *)stand_in;
    return SUCCESS;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version,
                        unsigned long long flags, int *status) {
    if (status) *status = 0;
    return cuGetProcAddress(symbol, function, version, flags);
}
