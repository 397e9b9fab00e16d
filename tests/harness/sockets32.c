/*
 * A 32-bit x86 program without a C library. It makes sockets by socketcall(2) and tells how that went, a line each:
 * "NAME 0", "NAME -ERRNO", or "NAME flags" for what the new descriptor says of itself.
 * Build: cc -m32 -ffreestanding -nostdlib -static -fno-pic -fno-stack-protector -no-pie
 */
#include "tell32.h"

enum { CLOSE = 6, FCNTL = 55, SETRLIMIT = 75, SOCKETCALL = 102, SOCKET = 359 };
enum { SYS_SOCKET = 1, SYS_BIND = 2, SYS_LISTEN = 4, SYS_SOCKETPAIR = 8 };
enum { STREAM = 1, DATAGRAM = 2, RAW = 3, SEQPACKET = 5, NONBLOCK = 04000, CLOEXEC = 02000000 };

static int call3(word number, word first, word second, word third)
{
    return call(number, first, second, third, 0);
}

static int make(word family, word type, word protocol)
{
    word arguments[3] = { family, type, protocol };
    return call3(SOCKETCALL, SYS_SOCKET, (word)arguments, 0);
}

static void attempt(const char *name, word family, word type, word protocol)
{
    int fd = make(family, type, protocol);
    say(name, fd < 0 ? fd : 0);
    if (fd >= 0)
        call3(CLOSE, fd, 0, 0);
}

static void listen_at(const char *name, int fd, word *address, word size)
{
    word bound[3] = { fd, (word)address, size }, listening[2] = { fd, 1 };
    int result = call3(SOCKETCALL, SYS_BIND, (word)bound, 0);
    say(name, result ? result : call3(SOCKETCALL, SYS_LISTEN, (word)listening, 0));
}

void _start(void)
{
    int fd, pair[2];
    word loopback[4] = { 2, 0x0100007f, 0, 0 };
    word pairs[4] = { 1, STREAM, 0, (word)pair };
    word none[2] = { 4, 4 };

    attempt("vsock", 40, STREAM, 0);
    attempt("alg", 38, SEQPACKET, 0);
    attempt("unix", 1, STREAM, 0);
    attempt("inet", 2, STREAM, 0);
    attempt("inet6", 10, DATAGRAM, 0);
    attempt("netlink", 16, RAW, 0);
    attempt("raw", 2, RAW, 1);
    attempt("no_family", 1000, STREAM, 0);
    attempt("no_type", 2, 77, 0);
    attempt("negative_type", 2, -1, 0);
    say("no_memory", call3(SOCKETCALL, SYS_SOCKET, 16, 0));
    fd = call3(SOCKET, 40, STREAM, 0);
    say("vsock_by_number", fd < 0 ? fd : 0);
    say("pair", call3(SOCKETCALL, SYS_SOCKETPAIR, (word)pairs, 0));

    fd = make(2, STREAM | NONBLOCK | CLOEXEC, 0);
    say("closes_on_exec", call3(FCNTL, fd, 1 /* F_GETFD */, 0));
    say("blocks_not", call3(FCNTL, fd, 3 /* F_GETFL */, 0) & NONBLOCK);
    listen_at("listens", fd, loopback, sizeof loopback);
    fd = make(2, STREAM, 0);
    say("stays_on_exec", call3(FCNTL, fd, 1, 0));
    say("blocks", call3(FCNTL, fd, 3, 0) & NONBLOCK);

    call3(SETRLIMIT, 7 /* RLIMIT_NOFILE */, (word)none, 0);
    attempt("too_many", 1, STREAM, 0);
    call3(EXIT, 0, 0, 0);
}
