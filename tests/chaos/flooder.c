/* flooder FROM_ADDRESS PORT COUNT RATE: connects to a port of this machine and resets at once, at most
   RATE times a second, COUNT times and on until its standard input is closed. It waits for no answer,
   so that a full queue of the listener does not slow it down; an orderly close would use up its own
   ports in seconds. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
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
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    const long count = atol(arguments[3]);
    const double rate = atof(arguments[4]), began_s = now_s();
    long n_made = 0;
    while (n_made < count || poll(&input, 1, 0) == 0) {
        if ((double)n_made > (now_s() - began_s) * rate)
            usleep(1000);
        else
            n_made += connect_once(&from, &to);
    }
    return 0;
}
