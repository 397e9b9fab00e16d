"""How a supervisor receives calls without poll(2): signals wake it when its child ends, and disturb nothing else."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from img_core.linux import syscalls
from img_lib_containers import call_numbers, seccomp

_PLACE = 2 * (syscalls.MACHINE in ("aarch64", "arm64"))
_NUMBER, _ARCHITECTURE = call_numbers.NUMBERS["openat"][_PLACE], call_numbers.ARCHITECTURES[_PLACE]
_CODE = ((0x20, 0, 0, 0), (0x15, 0, 1, _NUMBER), (0x06, 0, 0, 0x7FC00000), (0x06, 0, 0, 0x7FFF0000))
FILTER = b"".join(struct.pack("=HBBI", *each) for each in _CODE)
DEADLINE = 60


def in_child(work: Callable[[], bool]) -> int:
    """Return the exit status of a child that does *work*: 0 if that is true."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            signal.alarm(DEADLINE)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def supervised(step: Callable[[], bool]) -> Iterator[tuple[int, int]]:
    """Give the listener and the pid of a child that does *step* under a filter."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            listener = seccomp.install_listener(FILTER, patient=True)
            socket.send_fds(theirs, [b"x"], [listener])
            os.close(listener)
            code = 0 if step() else 1
        finally:
            os._exit(code)
    _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
    yield listeners[0], pid


def test_descriptors_arrive_whatever_wakes_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_SECONDS_MISSED", 0.0003)

    def step() -> bool:
        return all(_reads_word() for _ in range(1500))

    def work() -> bool:
        word = os.memfd_create("word")
        os.write(word, b"word")
        with supervised(step) as (listener, pid):
            for raw in seccomp.Channel(listener).calls(os.pidfd_open(pid)):
                seccomp.answer_with_descriptor(listener, seccomp.Notification.of(raw), word, close_on_exec=True)
            return os.waitpid(pid, 0)[1] == 0

    assert in_child(work) == 0


def _reads_word() -> bool:
    fd = os.open("/no/such/file", os.O_RDONLY)
    try:
        return os.pread(fd, 4, 0) == b"word"
    finally:
        os.close(fd)


@pytest.mark.parametrize("busy", [True, False])
def test_it_ends_with_its_child_though_others_go_on(busy: bool) -> None:
    def work() -> bool:
        end, ours = os.pipe()

        def step() -> bool:
            if os.fork() == 0:
                os.close(ours)
                while busy:  # until there is no supervisor
                    _opens_nothing()
                os.read(end, 1)  # until the supervisor has ended
                os._exit(0)
            return not _opens_nothing()

        with supervised(step) as (listener, pid):
            passed = 0

            def passes() -> bool:
                nonlocal passed
                passed += 1
                return True

            left = [*seccomp.Channel(listener).calls(os.pidfd_open(pid), passes)]
            return os.waitpid(pid, 0)[1] == 0 and not left and passed > 0

    assert in_child(work) == 0


@pytest.mark.parametrize("opens", [True, False])
def test_a_call_that_waits_for_no_answer_any_more_is_known(opens: bool) -> None:
    def work() -> bool:
        with supervised(lambda: not _opens_nothing()) as (listener, pid):
            channel, waits = seccomp.Channel(listener), []

            def answer() -> int:
                if not opens:
                    os.kill(pid, signal.SIGKILL)
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                waits.append(channel.waits())
                return channel.GOES_ON

            left = [*channel.calls(os.pidfd_open(pid), answer)]
            os.waitpid(pid, 0)
            return waits == [opens] and not left

    assert in_child(work) == 0


@pytest.mark.parametrize(("outcome", "error"), [("GOES_ON", errno.ENOENT), ("DONE", 0), ("FAULT", errno.EFAULT)])
def test_a_call_ends_as_its_answer_says(outcome: str, error: int) -> None:
    def step() -> bool:
        try:
            return os.open("/no/such/file", os.O_RDONLY) == error  # DONE is no descriptor, but a 0
        except OSError as err:
            return err.errno == error

    def work() -> bool:
        with supervised(step) as (listener, pid):
            channel, seen = seccomp.Channel(listener), []

            def answer() -> int:
                seen.append(channel.words[channel.CALL] == channel.call_of(_ARCHITECTURE, _NUMBER))
                return int(getattr(channel, outcome))

            left = [*channel.calls(os.pidfd_open(pid), answer)]
            return os.waitpid(pid, 0)[1] == 0 and seen == [True] and not left

    assert in_child(work) == 0


def _opens_nothing() -> bool:
    try:
        os.close(os.open("/no/such/file", os.O_RDONLY))
    except FileNotFoundError:
        return False
    return True
