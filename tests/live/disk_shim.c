/* A disk with faults, for LD_PRELOAD: what the file named by DISK_FAULT says happens to every outbox.db and its WAL.
 *
 *   errno N   writing fails with this errno
 *   fsync N   fsync and fdatasync fail with this errno
 *   slow N    fsync and fdatasync take N milliseconds longer
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fault(int fd, const char *kind)
{
    char link[64], path[4096], line[64];
    const char *name = getenv("DISK_FAULT");
    int number = 0, saved = errno;
    FILE *file;
    ssize_t size;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (name && size > 0) {
        path[size] = 0;
        if (strstr(path, "/outbox.db") && (file = fopen(name, "r"))) {
            if (fgets(line, sizeof line, file) && !strncmp(line, kind, 5))
                number = atoi(line + 5);
            fclose(file);
        }
    }
    errno = saved;
    return number;
}

#define WRITES(name, offset_t)                                                  \
    ssize_t name(int fd, const void *data, size_t size, offset_t offset)        \
    {                                                                           \
        static ssize_t (*real)(int, const void *, size_t, offset_t);            \
        int number = fault(fd, "errno");                                        \
        if (number) { errno = number; return -1; }                              \
        if (!real) real = dlsym(RTLD_NEXT, #name);                              \
        return real(fd, data, size, offset);                                    \
    }

#define SYNCS(name)                                                             \
    int name(int fd)                                                            \
    {                                                                           \
        static int (*real)(int);                                                \
        int number = fault(fd, "slow ");                                        \
        struct timespec wait = { number / 1000, number % 1000 * 1000000L };     \
        if (number) nanosleep(&wait, NULL);                                     \
        number = fault(fd, "fsync");                                            \
        if (number) { errno = number; return -1; }                              \
        if (!real) real = dlsym(RTLD_NEXT, #name);                              \
        return real(fd);                                                        \
    }

WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)
SYNCS(fsync)
SYNCS(fdatasync)
