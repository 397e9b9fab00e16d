"""Other processes that a contract is tried in: two at once, one that is killed, one with little room on its disk or little memory.

Each suite says what is done in them; how they are made and what became of them is here.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

__all__ = [
    "CEILING",
    "LARGE",
    "at_once",
    "eventually",
    "fork",
    "in_child",
    "in_step",
    "is_alive",
    "kill_after",
    "kill_when_told",
    "little_room",
    "memory_growth",
    "processes_with",
    "resident",
    "run_forked",
    "status_of",
]

#: bytes of what is large, and those by which a process that handles it may grow
LARGE = 64 << 20
CEILING = 40 << 20
#: seconds that anything may take on a busy machine
_PATIENCE = 60.0


def fork(work: Callable[[], object], report: int = -1, *, session: bool = False) -> int:
    """Do *work* in a child process, whose id is returned; a failure goes as text to the descriptor *report*, if there is one."""
    child = os.fork()
    if child == 0:
        _be_child(work, report, session)
    return child


def _be_child(work: Callable[[], object], report: int, session: bool) -> NoReturn:
    """Never return: the forked copy must not run the rest of the test session."""
    status = 1
    try:
        if session:
            os.setsid()
        work()
        status = 0
    except BaseException:
        if report >= 0:
            os.write(report, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status)


def status_of(child: int) -> int:
    """Wait for a child; return its exit status, or -n if signal n ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_forked(work: Callable[[], object]) -> None:
    """Call *work* in a child process; a failure there is an AssertionError here."""
    at_once(work)


def in_child(work: Callable[[], str]) -> str:
    """Return what *work* returned in another process; an exception there is an AssertionError here."""
    (text,) = at_once(work)
    return text


def at_once(*works: Callable[[], object]) -> list[str]:
    """Do *works* at the same time, each in a process of its own; return the texts that they returned. Failures are AssertionErrors."""
    return _answers([_told(work) for work in works])


def in_step(first: Callable[[Callable[[], None]], object], second: Callable[[Callable[[], None]], object]) -> list[str]:
    """Do both as `at_once`. Each is given a function that waits until the other has called its own as often, or has ended."""
    here, there = socket.socketpair()
    with here, there:
        started = [_told(partial(_be_one, *pair)) for pair in ((first, here, there), (second, there, here))]
    return _answers(started)


def _be_one(work: Callable[[Callable[[], None]], object], own: socket.socket, other: socket.socket) -> object:
    other.close()
    own.settimeout(_PATIENCE)

    def meet() -> None:
        with suppress(ConnectionError):  # it has ended
            own.sendall(b"!")
            own.recv(1)

    return work(meet)


def _answers(started: Sequence[tuple[int, int]]) -> list[str]:
    """Return the texts of works from `_told`."""
    texts = []
    for _, reader in started:
        with os.fdopen(reader, "rb") as answer:
            texts.append(answer.read().decode(errors="replace"))
    failed = [
        text or f"the process {child} failed"
        for (child, _), text in zip(started, texts, strict=True)
        if status_of(child)
    ]
    if failed:
        raise AssertionError("\n".join(failed))
    return texts


def _told(work: Callable[[], object]) -> tuple[int, int]:
    """Start *work*; return the child and the descriptor from which its answer can be read."""
    reader, writer = os.pipe()

    def tell() -> None:
        os.close(reader)
        answer = work()
        text = answer.encode(errors="surrogateescape") if isinstance(answer, str) else b""
        while text:
            text = text[os.write(writer, text) :]

    child = fork(tell, writer)
    os.close(writer)
    return child, reader


def kill_after(seconds: float, work: Callable[[], object]) -> None:
    """Do *work* in a session of its own whose first process is killed after *seconds*; wait until all of the others have ended."""
    child = fork(work, session=True)
    time.sleep(seconds)
    _kill(child)


def kill_when_told(work: Callable[[Callable[[], None]], object]) -> None:
    """Do *work* in a session of its own until it calls what it is given: then it is killed; wait until all of the others have ended."""
    reader, writer = os.pipe()

    def reached() -> None:
        os.write(writer, b"!")
        threading.Event().wait(_PATIENCE)

    child = fork(lambda: work(reached), writer, session=True)
    os.close(writer)
    with os.fdopen(reader, "rb") as news:
        told = news.read(1)
        failure = b"" if told == b"!" else told + news.read()
    _kill(child)
    text = failure.decode(errors="replace")
    assert told == b"!", f"it ended before it came to the place where it was to be killed\n{text}"


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    eventually(
        lambda: not _session(child), lambda: f"a program goes on after who called it was killed: {_session(child)}"
    )


def _session(leader: int) -> list[str]:
    """Return the names of the processes that live in the session of *leader* (proc(5), ``/proc/PID/stat``)."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        head, fields = _stat(int(name))
        if fields and int(fields[3]) == leader and fields[0] != "Z":
            found.append(head.partition("(")[2])
    return found


def _stat(pid: int) -> tuple[str, Sequence[str]]:
    """Return id and name of a process, and what else its line says; nothing if it is gone."""
    try:
        head, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")
    except OSError:
        return "", ()
    return head, rest.split()


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and has not ended."""
    _, fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def processes_with(word: str) -> list[int]:
    """Return the processes of this host that have *word* as an argument of their own."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            found.append(int(name))
    return found


def eventually(
    condition: Callable[[], bool], what: str | Callable[[], str] = "waited in vain", seconds: float = _PATIENCE
) -> None:
    """Look every hundredth of a second until *condition* holds; an AssertionError that says *what* after *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.01)


@contextmanager
def little_room(limit: int) -> Iterator[None]:
    """Let no file, of whatever program, become larger than *limit* bytes, as on a full disk; for a process of its own."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    yield


def memory_growth(work: Callable[[], object]) -> int:
    """Return by how many bytes a process grew, at most, while it did *work*; programs that it called do not count."""

    def measured() -> str:
        before = resident("VmRSS")
        work()
        return str(resident("VmHWM") - before)

    # What is free in this process would be taken first by its child, which would seem not to grow.
    with suppress(AttributeError):  # malloc_trim(3) is glibc's
        ctypes.CDLL(None).malloc_trim(0)
    return int(in_child(measured))


def resident(field: str) -> int:
    """Return a size of this process (proc(5), ``/proc/PID/status``); wait4(2) would count what the parent had at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    return 0
