"""The executor `chroot`: what is read of the memory of those who call, call after call."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from img_executor_chroot._callers import Callers, PathReader

TIMES = 20
PLACE = ctypes.create_string_buffer(300)


@contextmanager
def caller(path: bytes, *, threads: int = 1) -> Iterator[int]:
    """Give a process that has *path* at `PLACE`."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        PLACE.value = path
        for _ in range(threads - 1):
            threading.Thread(target=signal.pause, daemon=True).start()
        os.write(told, b"!")
        while True:
            signal.pause()
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Calls:
    """Reads as for calls of one process or another."""

    def __init__(self) -> None:
        self.pid = ctypes.c_int()
        self.reader = PathReader(Callers(-1), self.pid)

    def read(self, pid: int) -> bytes | None:
        self.pid.value = pid
        return self.reader.read(ctypes.addressof(PLACE))

    def read_last(self, pid: int) -> bytes | None:
        self.pid.value = pid
        return self.reader.read_last(ctypes.addressof(PLACE))


@pytest.fixture
def calls() -> Iterator[Calls]:
    made = Calls()
    yield made
    made.read_last(os.getpid())
    assert not open_memories()


def open_memories() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # of the list itself
            continue
        found += [name] * name.endswith("/mem")
    return found


def test_the_memory_of_who_calls_again_and_again_stays_open(calls: Calls) -> None:
    with caller(b"/one") as one:
        assert {calls.read(one) for _ in range(TIMES)} == {b"/one"}
        assert open_memories() == [f"/proc/{one}/mem"]


def test_what_another_process_says_is_read_from_its_own(calls: Calls) -> None:
    with caller(b"/one") as one, caller(b"/other") as other:
        for _ in range(3):
            assert {calls.read(one) for _ in range(TIMES)} == {b"/one"}
            assert {calls.read(other) for _ in range(TIMES)} == {b"/other"}
        for _ in range(TIMES):
            assert (calls.read(one), calls.read(other)) == (b"/one", b"/other")
        assert not open_memories()


def test_a_process_that_gets_another_memory_is_read_anew(calls: Calls) -> None:
    with caller(b"/one") as one:
        for _ in range(TIMES):
            calls.read(one)
        assert calls.read_last(one) == b"/one"
        assert not open_memories()
        assert calls.read(one) == b"/one"


def test_the_memory_of_many_threads_does_not_stay_open(calls: Calls) -> None:
    with caller(b"/one", threads=2) as one:
        assert {calls.read(one) for _ in range(TIMES)} == {b"/one"}
        assert not open_memories()


def test_nothing_is_read_of_who_has_ended(calls: Calls) -> None:
    with caller(b"/one") as one:
        for _ in range(TIMES):
            calls.read(one)
    assert calls.read(one) is None


@pytest.mark.parametrize("path", [b"", b"x" * 255, b"x" * 256])
def test_what_is_too_long_is_left_to_who_reads_on(calls: Calls, path: bytes) -> None:
    with caller(path) as one:
        assert {calls.read(one) for _ in range(TIMES)} == {path if len(path) < 256 else None}


def test_an_address_where_nothing_is_says_nothing(calls: Calls) -> None:
    with caller(b"/one") as one:
        for _ in range(TIMES):
            calls.read(one)
            assert calls.reader.read(8) is None
