/* Bends the clock of a process: every reading of the time of day is off by the seconds that stand
   in the file CHAOS_CLOCK. What counts time as it passes (CLOCK_MONOTONIC), sleeps and waits is
   left alone, as it is when somebody sets the clock of a machine. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset_s(void)
{
    char text[32] = {0};
    const int error = errno;
    const char *path = getenv("CHAOS_CLOCK");
    const int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0)
            text[0] = 0;
        close(file);
    }
    errno = error;
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    const int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += offset_s();
    return result;
}

int gettimeofday(struct timeval *at, void *zone)
{
    const int result = (int)syscall(SYS_gettimeofday, at, zone);
    if (result == 0)
        at->tv_sec += offset_s();
    return result;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
