/* Open-loop load over HTTP/1.1 on loopback: request i is due at start + i / rate, whether or not earlier answers have
 * arrived. Latency counts from the time when a request was due, so a stall counts for every request that it delays.
 *
 *     generator PORT RATE COUNT FIRST CONNECTIONS TIMEOUT_S MARKER REQUESTS RESULTS
 *
 * REQUESTS holds complete requests, headers and body: the 8 bytes "requests", their number n, n pairs (offset, length),
 * all uint64 in this machine's byte order, then the bytes. Request i is number (FIRST + i) modulo n.
 * RESULTS gets COUNT records of `struct result`. The generator counts MARKER in the bodies of answers.
 *
 * One thread. Opens connections as needed, at most CONNECTIONS. A request that is due waits for a free connection, and
 * the wait counts. Answers must have a Content-Length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HANGING = 0, LOST = -1 };       /* in place of a status */
enum { PATROL_NS = 20 * 1000 * 1000 }; /* how often deadlines are checked */

struct result {
    double due;     /* seconds from the start */
    double late;    /* seconds from due until the first byte is sent; 0 if never */
    double latency; /* seconds from due until the answer's last byte, or until the timeout */
    int32_t status; /* HTTP status, or HANGING, or LOST */
    int32_t marked; /* how often MARKER occurs in the answer's body */
};

struct connection {
    int fd;         /* -1: closed */
    long request;   /* -1: idle */
    size_t sent, size;
    int wants_out;  /* epoll is told to say when more can be sent */
    char *answer;
    size_t length, capacity;
    size_t body;    /* where the answer's body begins; 0: headers incomplete */
    size_t end;     /* where it ends */
    int status, closes;
};

static struct { const char *bytes; const uint64_t *index; uint64_t count; } requests;
static struct { int port; double rate; long count, first; int connections; double timeout; const char *marker; } load;
static struct result *results;
static struct connection *connections;
static int *idle, idle_count, opened;
static int poll_fd, timer_fd;
static double start;
static long due, sent, finished; /* how many requests are due, handed to a connection, over */

static void fail(const char *what) {
    fprintf(stderr, "generator: %s: %s\n", what, errno ? strerror(errno) : "refused");
    exit(2);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double due_at(long i) { return start + (double)i / load.rate; }

static void finish(long i, int status, int marked) {
    results[i].latency = now() - due_at(i);
    results[i].status = status;
    results[i].marked = marked;
    finished++;
}

static void forget_idle(int which) {
    for (int i = 0; i < idle_count; i++)
        if (idle[i] == which) {
            memmove(idle + i, idle + i + 1, (size_t)(--idle_count - i) * sizeof *idle);
            return;
        }
}

/* Closes a connection. A request in progress on it ends with `status`. */
static void drop(struct connection *c, int status) {
    if (c->request >= 0) finish(c->request, status, 0);
    else forget_idle((int)(c - connections));
    close(c->fd);
    c->fd = c->request = -1;
    opened--;
}

static void watch(struct connection *c, int operation, int wants_out) {
    struct epoll_event event = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(poll_fd, operation, c->fd, &event)) fail("epoll_ctl");
    c->wants_out = wants_out;
}

static void pull(struct connection *c);

/* Sends as much as the socket takes; nothing while the connection is being made. */
static void push(struct connection *c) {
    uint64_t number = (uint64_t)(load.first + c->request) % requests.count;
    const char *bytes = requests.bytes + requests.index[2 * number];
    c->size = requests.index[2 * number + 1];
    while (c->sent < c->size) {
        ssize_t n = send(c->fd, bytes + c->sent, c->size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
            if (!c->wants_out) watch(c, EPOLL_CTL_MOD, 1);
            return;
        }
        if (n < 0) { pull(c); return; } /* the server may have answered before it closed */
        if (!c->sent) results[c->request].late = now() - due_at(c->request);
        c->sent += (size_t)n;
    }
    if (c->wants_out) watch(c, EPOLL_CTL_MOD, 0);
}

/* Begins a new connection; NULL if CONNECTIONS are open. */
static struct connection *open_connection(void) {
    if (opened == load.connections) return NULL;
    struct connection *c = connections;
    while (c->fd >= 0) c++;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load.port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* The first send reports a failure. */
    (void)!connect(fd, (struct sockaddr *)&server, sizeof server);
    c->fd = fd;
    opened++;
    watch(c, EPOLL_CTL_ADD, 0);
    return c;
}

static void send_due(void) {
    while (due < load.count && due_at(due) <= now()) due++;
    while (sent < due) {
        struct connection *c = idle_count ? &connections[idle[--idle_count]] : open_connection();
        if (!c) return;
        c->request = sent++;
        c->sent = c->length = c->body = 0;
        push(c);
    }
}

/* Reads status and length from complete headers. */
static int read_headers(struct connection *c) {
    char *end = memmem(c->answer, c->length, "\r\n\r\n", 4);
    if (!end) return 1;
    long length = -1;
    c->closes = 0;
    if (sscanf(c->answer, "HTTP/1.1 %d", &c->status) != 1) return 0;
    for (char *line = memchr(c->answer, '\n', c->length); line < end; line = memchr(line, '\n', (size_t)(end + 2 - line))) {
        line++;
        if (!strncasecmp(line, "content-length:", 15)) length = strtol(line + 15, NULL, 10);
        if (!strncasecmp(line, "connection: close", 17)) c->closes = 1;
        if (!strncasecmp(line, "transfer-encoding:", 18)) { errno = 0; fail("an answer without Content-Length"); }
    }
    if (length < 0) return 0;
    c->body = (size_t)(end + 4 - c->answer);
    c->end = c->body + (size_t)length;
    return 1;
}

static void complete(struct connection *c) {
    int marked = 0;
    size_t size = strlen(load.marker);
    char *at = c->answer + c->body, *end = c->answer + c->end;
    while (size && (at = memmem(at, (size_t)(end - at), load.marker, size))) marked++, at += size;
    finish(c->request, c->status, marked);
    c->request = -1;
    idle[idle_count++] = (int)(c - connections);
    if (c->closes || c->length > c->end || c->sent < c->size) drop(c, LOST);
}

/* Reads what has arrived. */
static void pull(struct connection *c) {
    for (;;) {
        if (c->capacity - c->length < 4096) {
            c->capacity = 2 * c->capacity + 8192;
            if (!(c->answer = realloc(c->answer, c->capacity))) fail("realloc");
        }
        ssize_t n = recv(c->fd, c->answer + c->length, c->capacity - c->length - 1, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0 || c->request < 0) { drop(c, LOST); return; }
        c->answer[c->length += (size_t)n] = 0;
        if (!c->body && !read_headers(c)) { drop(c, LOST); return; }
        if (c->body && c->length >= c->end) { complete(c); return; }
    }
}

/* Ends requests that are older than the timeout. */
static void patrol(void) {
    double oldest = now() - load.timeout;
    for (int i = 0; i < load.connections; i++) {
        struct connection *c = &connections[i];
        if (c->fd >= 0 && c->request >= 0 && due_at(c->request) < oldest) drop(c, HANGING);
    }
    while (sent < due && due_at(sent) < oldest) finish(sent++, HANGING, 0);
}

static void arm(void) {
    double wake = now() + 1e-9 * PATROL_NS;
    if (due < load.count && due_at(due) < wake) wake = due_at(due);
    struct itimerspec at = {.it_value.tv_sec = (time_t)wake};
    at.it_value.tv_nsec = (long)(1e9 * (wake - (double)at.it_value.tv_sec));
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL)) fail("timerfd_settime");
}

static void *mapped(const char *path, size_t size, int writable) {
    int fd = open(path, writable ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY, 0644);
    struct stat found;
    if (fd < 0 || (writable && ftruncate(fd, (off_t)size)) || fstat(fd, &found)) fail(path);
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    void *memory = mmap(NULL, (size_t)found.st_size, protection, writable ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED) fail(path);
    close(fd);
    return memory;
}

static void prepare(char **given) {
    load.port = atoi(given[1]), load.rate = atof(given[2]), load.count = atol(given[3]), load.first = atol(given[4]);
    load.connections = atoi(given[5]), load.timeout = atof(given[6]), load.marker = given[7];
    if (load.rate <= 0 || load.count <= 0 || load.connections <= 0) { errno = EINVAL; fail("arguments"); }
    requests.bytes = mapped(given[8], 0, 0);
    if (memcmp(requests.bytes, "requests", 8)) { errno = EINVAL; fail(given[8]); }
    const uint64_t *words = (const uint64_t *)requests.bytes;
    requests.count = words[1], requests.index = words + 2;
    results = mapped(given[9], (size_t)load.count * sizeof *results, 1);
    connections = calloc((size_t)load.connections, sizeof *connections);
    idle = calloc((size_t)load.connections, sizeof *idle);
    for (int i = 0; i < load.connections; i++) connections[i].fd = -1, connections[i].request = -1;
    poll_fd = epoll_create1(EPOLL_CLOEXEC), timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (poll_fd < 0 || timer_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &event)) fail("epoll");
}

int main(int count, char **given) {
    if (count != 10) { errno = EINVAL; fail("arguments"); }
    prepare(given);
    start = now() + 0.01;
    for (long i = 0; i < load.count; i++) results[i].due = due_at(i) - start;
    double patrolled = start;
    struct epoll_event events[256];
    while (finished < load.count) {
        arm();
        int n = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            uint64_t ticks;
            if (!c) { (void)!read(timer_fd, &ticks, sizeof ticks); continue; }
            if (c->fd >= 0 && c->request >= 0 && (events[i].events & EPOLLOUT)) push(c);
            if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) pull(c);
        }
        send_due();
        if (now() - patrolled > 1e-9 * PATROL_NS) patrol(), patrolled = now();
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.6f\n", (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
                     + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
    return 0;
}
