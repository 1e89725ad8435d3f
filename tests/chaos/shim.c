/* A library for LD_PRELOAD that fails one call of libc, moves the clocks, and hides /proc.

   Calls are counted in one process alone: the one with the argument CHAOS_PROGRAM ("serve"), from
   the first opening of a file whose path holds CHAOS_FROM on, if that is set.

   CHAOS_STAGE    1: the process that parses the command line; 2: the daemon that it becomes
   CHAOS_TRACE    a file for one line a counted call: its name, number, what it is about, and after a
                  tab the lines of Python that it comes from, the innermost first
   CHAOS_FAIL     `name:number:errno`: the n-th call of that name fails with that errno, once
   CHAOS_CONTROL  a file that is mapped: nanoseconds that CLOCK_REALTIME and CLOCK_MONOTONIC are
                  ahead, and whether /proc can be opened; of every process, and changed at any time
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct control {
  int64_t real_ns, mono_ns, hide_proc;
};

static struct control nothing, *control = &nothing;
static pid_t owner; /* whose calls are counted; 0: nobody's */
static atomic_int counting;
static int trace = -1;
static const char *from = "";
static char wanted[32];
static long stacks = -1;            /* a file in memory, for the interpreter to write a stack into */
static __thread int within;         /* whether this thread is writing one */
static pthread_mutex_t one_stack = PTHREAD_MUTEX_INITIALIZER;
static long wanted_number, wanted_errno;

/* libc's own syscall(2), by which nothing of ours is counted. */
#define kernel(...)                                                                \
  ({                                                                               \
    static long (*real_syscall)(long, ...);                                        \
    if (!real_syscall) real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall"); \
    real_syscall(__VA_ARGS__);                                                     \
  })

static long raw_open(const char *path, int flags) {
  return kernel(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static int is_program(const char *name) {
  char text[65536];
  long descriptor = raw_open("/proc/self/cmdline", O_RDONLY);
  long size = kernel(SYS_read, descriptor, text, sizeof text - 1), place;
  kernel(SYS_close, descriptor);
  if (size <= 0) return 0;
  text[size] = 0;
  for (place = 0; place < size; place += strlen(text + place) + 1)
    if (strcmp(text + place, name) == 0) return 1;
  return 0;
}

__attribute__((constructor)) static void begin(void) {
  const char *program = getenv("CHAOS_PROGRAM"), *stage = getenv("CHAOS_STAGE");
  const char *path = getenv("CHAOS_CONTROL"), *fail = getenv("CHAOS_FAIL");
  if (path) {
    long descriptor = raw_open(path, O_RDWR);
    long at = kernel(SYS_mmap, 0L, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor,
                      0L);
    if (at != -1) control = (struct control *)at;
    kernel(SYS_close, descriptor);
  }
  int is_second = getenv("_GPU_VALIDATOR_SERVE") != NULL;
  if (stage && atoi(stage) != 1 + is_second) return;
  if (!is_program(program ? program : "serve")) return;
  if (fail) sscanf(fail, "%31[^:]:%ld:%ld", wanted, &wanted_number, &wanted_errno);
  if (getenv("CHAOS_FROM")) from = getenv("CHAOS_FROM");
  if ((path = getenv("CHAOS_TRACE"))) trace = raw_open(path, O_WRONLY | O_CREAT | O_APPEND);
  counting = !*from;
  if (fail || path) owner = getpid();
}

/* The lines of Python that this thread is at: `file:line<file:line<...`, the innermost first. */
static void whence(char *text, size_t room) {
  static void *(*state)(void);
  static void (*dump)(int, void *);
  char all[8192], *line, *rest;
  size_t used = 0;
  text[0] = 0;
  if (!state) state = (void *(*)(void))dlsym(RTLD_DEFAULT, "PyGILState_GetThisThreadState");
  if (!dump) dump = (void (*)(int, void *))dlsym(RTLD_DEFAULT, "_Py_DumpTraceback");
  void *thread = state && dump ? state() : NULL;
  if (!thread) return;
  pthread_mutex_lock(&one_stack);
  within = 1;
  if (stacks < 0) stacks = kernel(SYS_memfd_create, "stacks", 1L);
  kernel(SYS_ftruncate, stacks, 0L);
  kernel(SYS_lseek, stacks, 0L, 0L);
  dump(stacks, thread);
  long size = kernel(SYS_pread64, stacks, all, sizeof all - 1, 0L);
  within = 0;
  pthread_mutex_unlock(&one_stack);
  all[size > 0 ? size : 0] = 0;
  for (line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    char file[512];
    int number;
    if (sscanf(line, " File \"%511[^\"]\", line %d", file, &number) != 2) continue;
    int more = snprintf(text + used, room - used, "%s%s:%d", used ? "<" : "", file, number);
    if (more < 0 || used + more >= room) break;
    used += more;
  }
  text[used] = 0;
}

/* Whether this call is the one that fails. */
static int fails(const char *name, atomic_long *count, const char *about) {
  if (!owner || owner != getpid() || within) return 0;
  if (!counting && about && strstr(about, from)) counting = 1;
  if (!counting) return 0;
  long number = ++*count;
  int chosen = number == wanted_number && strcmp(name, wanted) == 0;
  if (trace >= 0) {
    char line[8192];
    int kept = errno, size = snprintf(line, 512, "%s %ld %.180s%s", name, number,
                                      about ? about : "", chosen ? " FAILED" : "");
    for (int place = 0; place < size; place++)
      if (line[place] == '\n' || line[place] == '\t') line[place] = ' ';
    line[size++] = '\t';
    whence(line + size, sizeof line - size - 1);
    strcat(line, "\n");
    kernel(SYS_write, trace, line, strlen(line));
    errno = kept;
  }
  if (chosen) errno = wanted_errno;
  return chosen;
}

#define COUNTED(name, about)                     \
  static __typeof__(&name) real;                 \
  static atomic_long count;                      \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
  if (fails(#name, &count, about))

#define WRAP(type, name, parameters, arguments, about, failed) \
  type name parameters {                                       \
    COUNTED(name, about) return failed;                        \
    return real arguments;                                     \
  }

static int is_hidden(const char *path) {
  int hidden = control->hide_proc && strncmp(path, "/proc/", 6) == 0;
  if (hidden) errno = EACCES;
  return hidden;
}

#define MODE                      \
  va_list rest;                   \
  va_start(rest, flags);          \
  mode_t mode = va_arg(rest, int); \
  va_end(rest)

#define WRAP_OPEN(name)                             \
  int name(const char *path, int flags, ...) {      \
    MODE;                                           \
    COUNTED(name, path) return -1;                  \
    return is_hidden(path) ? -1 : real(path, flags, mode); \
  }
#define WRAP_OPENAT(name)                                   \
  int name(int folder, const char *path, int flags, ...) {  \
    MODE;                                                   \
    COUNTED(name, path) return -1;                          \
    return is_hidden(path) ? -1 : real(folder, path, flags, mode); \
  }

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

DIR *opendir(const char *path) {
  COUNTED(opendir, path) return NULL;
  return is_hidden(path) ? NULL : real(path);
}

/* What a write is about is its beginning, so that a line of the log marks a place in the trace. */
ssize_t write(int descriptor, const void *bytes, size_t size) {
  char text[100] = "";
  if (descriptor == 2) memcpy(text, bytes, size < 99 ? size : 99);
  COUNTED(write, text) return -1;
  return real(descriptor, bytes, size);
}

WRAP(ssize_t, read, (int d, void *b, size_t n), (d, b, n), NULL, -1)
WRAP(int, socket, (int f, int t, int p), (f, t, p), NULL, -1)
WRAP(int, socketpair, (int f, int t, int p, int two[2]), (f, t, p, two), NULL, -1)
WRAP(int, bind, (int d, __CONST_SOCKADDR_ARG a, socklen_t n), (d, a, n), NULL, -1)
WRAP(int, listen, (int d, int n), (d, n), NULL, -1)
WRAP(int, accept4, (int d, __SOCKADDR_ARG a, socklen_t *n, int f), (d, a, n, f), NULL, -1)
WRAP(int, getsockname, (int d, __SOCKADDR_ARG a, socklen_t *n), (d, a, n), NULL, -1)
WRAP(int, getpeername, (int d, __SOCKADDR_ARG a, socklen_t *n), (d, a, n), NULL, -1)
WRAP(int, setsockopt, (int d, int l, int o, const void *v, socklen_t n), (d, l, o, v, n), NULL, -1)
WRAP(int, getsockopt, (int d, int l, int o, void *v, socklen_t *n), (d, l, o, v, n), NULL, -1)
WRAP(ssize_t, send, (int d, const void *b, size_t n, int f), (d, b, n, f), NULL, -1)
WRAP(ssize_t, recv, (int d, void *b, size_t n, int f), (d, b, n, f), NULL, -1)
WRAP(ssize_t, sendmsg, (int d, const struct msghdr *m, int f), (d, m, f), NULL, -1)
WRAP(ssize_t, recvmsg, (int d, struct msghdr *m, int f), (d, m, f), NULL, -1)
WRAP(int, shutdown, (int d, int how), (d, how), NULL, -1)
WRAP(int, pipe, (int two[2]), (two), NULL, -1)
WRAP(int, pipe2, (int two[2], int f), (two, f), NULL, -1)
WRAP(int, dup, (int d), (d), NULL, -1)
WRAP(int, epoll_create1, (int f), (f), NULL, -1)
WRAP(int, epoll_ctl, (int e, int o, int d, struct epoll_event *v), (e, o, d, v), NULL, -1)
WRAP(int, epoll_wait, (int e, struct epoll_event *v, int n, int t), (e, v, n, t), NULL, -1)
WRAP(int, poll, (struct pollfd *p, nfds_t n, int t), (p, n, t), NULL, -1)
WRAP(int, select, (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t), (n, r, w, e, t), NULL, -1)
WRAP(int, rename, (const char *a, const char *b), (a, b), a, -1)
WRAP(int, renameat, (int f, const char *a, int g, const char *b), (f, a, g, b), a, -1)
WRAP(int, unlink, (const char *a), (a), a, -1)
WRAP(int, unlinkat, (int f, const char *a, int g), (f, a, g), a, -1)
WRAP(ssize_t, readlink, (const char *a, char *b, size_t n), (a, b, n), a, -1)
WRAP(int, stat, (const char *a, struct stat *s), (a, s), a, -1)
WRAP(int, stat64, (const char *a, struct stat64 *s), (a, s), a, -1)
WRAP(int, lstat, (const char *a, struct stat *s), (a, s), a, -1)
WRAP(int, lstat64, (const char *a, struct stat64 *s), (a, s), a, -1)
WRAP(int, fstat, (int d, struct stat *s), (d, s), NULL, -1)
WRAP(int, fstat64, (int d, struct stat64 *s), (d, s), NULL, -1)
WRAP(int, fstatat, (int f, const char *a, struct stat *s, int g), (f, a, s, g), a, -1)
WRAP(int, fstatat64, (int f, const char *a, struct stat64 *s, int g), (f, a, s, g), a, -1)
WRAP(int, fsync, (int d), (d), NULL, -1)
WRAP(int, fchmod, (int d, mode_t m), (d, m), NULL, -1)
WRAP(int, ftruncate64, (int d, off64_t n), (d, n), NULL, -1)
WRAP(off64_t, lseek64, (int d, off64_t n, int w), (d, n, w), NULL, -1)
WRAP(struct dirent64 *, readdir64, (DIR * d), (d), NULL, NULL)
WRAP(int, memfd_create, (const char *a, unsigned f), (a, f), a, -1)
/* What a mapping is about is its size. */
void *mmap64(void *at, size_t size, int protection, int flags, int descriptor, off64_t offset) {
  char text[24];
  snprintf(text, sizeof text, "%zu", size);
  COUNTED(mmap64, text) return MAP_FAILED;
  return real(at, size, protection, flags, descriptor, offset);
}

WRAP(pid_t, waitpid, (pid_t p, int *s, int o), (p, s, o), NULL, -1)
WRAP(int, waitid, (idtype_t t, id_t p, siginfo_t *s, int o), (t, p, s, o), NULL, -1)
WRAP(int, kill, (pid_t p, int s), (p, s), NULL, -1)
WRAP(int, killpg, (pid_t p, int s), (p, s), NULL, -1)
WRAP(pid_t, getpgid, (pid_t p), (p), NULL, -1)
WRAP(int, pthread_create, (pthread_t *t, const pthread_attr_t *a, void *(*w)(void *), void *b), (t, a, w, b), NULL, errno)

/* A wrapper of vfork cannot return twice on one stack; fork does what is asked for too. Python falls
   back to fork where vfork fails, which then fails for the same want. */
static int no_process;

pid_t fork(void) {
  int refused = no_process;
  no_process = 0;
  if (refused) errno = wanted_errno;
  COUNTED(fork, NULL) return -1;
  return refused ? -1 : real();
}

pid_t vfork(void) {
  static pid_t (*real)(void);
  static atomic_long count;
  if (!real) real = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
  no_process = fails("vfork", &count, NULL);
  return no_process ? -1 : real();
}

#define WRAP_CONTROL(name, type)                    \
  int name(int descriptor, type request, ...) {     \
    va_list rest;                                   \
    va_start(rest, request);                        \
    long value = va_arg(rest, long);                \
    va_end(rest);                                   \
    COUNTED(name, NULL) return -1;                  \
    return real(descriptor, request, value);        \
  }

int ioctl(int descriptor, unsigned long request, ...);
WRAP_CONTROL(fcntl, int)
WRAP_CONTROL(fcntl64, int)
WRAP_CONTROL(ioctl, unsigned long)

int prctl(int option, ...);
int prctl(int option, ...) {
  va_list rest;
  va_start(rest, option);
  long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long),
       d = va_arg(rest, long);
  va_end(rest);
  COUNTED(prctl, NULL) return -1;
  return real(option, a, b, c, d);
}

/* syscall(2) as Python makes it for pidfd_open; all others pass. */
long syscall(long number, ...) {
  va_list rest;
  va_start(rest, number);
  long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long),
       d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
  va_end(rest);
  static atomic_long count;
  if (number == SYS_pidfd_open && fails("pidfd_open", &count, NULL)) return -1;
  return kernel(number, a, b, c, d, e, f);
}

/* The clocks: read from the kernel, since a wrapper of ours is what libc's own callers see. */
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, now);
  int64_t ahead = 0;
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) ahead = control->real_ns;
  if (clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME || clock == CLOCK_MONOTONIC_RAW)
    ahead = control->mono_ns;
  if (code == 0 && ahead) {
    int64_t all = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + ahead;
    now->tv_sec = all / 1000000000;
    now->tv_nsec = all % 1000000000;
  }
  return code;
}

time_t time(time_t *where) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (where) *where = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}
