/* Preloaded into a server: notes how much of each append-only file a power loss would surely leave.
 *
 * After each f(data)sync of an *.aof that succeeded, the size that the file had before it goes into
 * <file>.synced, as text. What was written while it ran counts as lost: nobody promised it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ENDING[] = ".aof";

static int synced(int fd, const char *call)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
    char link[64], path[PATH_MAX + 8], size[32];
    struct stat before;
    ssize_t length = -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (fstat(fd, &before) == 0)
        length = readlink(link, path, PATH_MAX);
    int result = real(fd);
    int why = errno;
    ssize_t ending = (ssize_t)strlen(ENDING);
    if (result == 0 && length > ending && memcmp(path + length - ending, ENDING, ending) == 0) {
        strcpy(path + length, ".synced");
        int note = open(path, O_WRONLY | O_CREAT, 0600);
        int digits = snprintf(size, sizeof size, "%020lld", (long long)before.st_size);
        if (note < 0 || pwrite(note, size, digits, 0) != digits)
            dprintf(2, "fsync.c: %s cannot be written\n", path);
        close(note);
    }
    errno = why;
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
