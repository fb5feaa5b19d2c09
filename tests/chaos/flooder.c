/* flooder FROM_ADDRESS PORT SECONDS RATE: connects to a port of this machine and resets at once, at
   most RATE times a second, and prints how often. It waits for no answer, so that a full queue of
   the listener does not slow it down; an orderly close would use up its own ports in seconds. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int connect_once(const struct sockaddr_in *from, const struct sockaddr_in *to)
{
    const int peer = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (peer < 0)
        return 0;
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    const int is_bound = bind(peer, (const struct sockaddr *)from, sizeof *from) == 0;
    if (is_bound)
        connect(peer, (const struct sockaddr *)to, sizeof *to);
    close(peer);
    return is_bound;
}

int main(int n_arguments, char **arguments)
{
    if (n_arguments != 5)
        return 2;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    inet_pton(AF_INET, arguments[1], &from.sin_addr);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((unsigned short)atoi(arguments[2]));
    const double seconds = atof(arguments[3]), rate = atof(arguments[4]), began_s = now_s();
    long n_made = 0;
    for (double passed_s = 0; passed_s < seconds; passed_s = now_s() - began_s) {
        if ((double)n_made > passed_s * rate)
            usleep(1000);
        else
            n_made += connect_once(&from, &to);
    }
    printf("%ld\n", n_made);
    return 0;
}
