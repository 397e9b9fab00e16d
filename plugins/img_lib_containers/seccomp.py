"""System call filters: the compiled programs, loading them, and answering calls that a filter hands to a supervisor.

The programs are compiled at release time by ``contrib/seccomp/generate.py`` from `seccomp_rules`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import select
import signal
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "RAW_PID",
    "Channel",
    "Notification",
    "RawCall",
    "answer",
    "answer_with_descriptor",
    "fake_root_program",
    "install",
    "install_listener",
    "notifications",
    "owners_program",
    "proceed",
    "receive",
    "refusing",
    "sandbox_program",
    "sockets_program",
    "stay_on_one_processor",
    "still_waiting",
]

#: what the kernel tells of a call: `struct seccomp_notif` as numbers. For a supervisor that answers thousands; others get a `Notification`
RawCall = tuple[int, ...]
RAW_PID: Final = 1
RAW_NUMBER: Final = 3
RAW_ARCHITECTURE: Final = 4
RAW_ARGUMENTS: Final = 6  # of the first of six

# linux/seccomp.h; struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, instruction_pointer, args[6]
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
_NOTHING: Final = struct.Struct(f"{_NOTIFICATION.size}x")
# struct seccomp_notif_resp: id, val, error, flags
_RESPONSE: Final = struct.Struct("=QqiI")
_AFTER_ID: Final = struct.Struct("=qiI")
_IOCTL_RECEIVE: Final = 0xC0502100
_IOCTL_SEND: Final = 0xC0182101
_IOCTL_SET_FLAGS: Final = 0x40082104
_SYNC_WAKE_UP: Final = 1
_IOCTL_ID_VALID: Final = 0x40082102
_ID: Final = struct.Struct("=Q")
_FLAG_CONTINUE: Final = 1
#: what follows the id in a response for each of `Channel.LEFT` and the following
_RESPONSES: Final = tuple(
    _AFTER_ID.pack(*values) for values in ((0, 0, 0), (0, 0, _FLAG_CONTINUE), (0, 0, 0), (0, -errno.EFAULT, 0))
)
_WAKING: Final = (signal.SIGCHLD, signal.SIGALRM)
_SECONDS_MISSED: Final = 0.2  # of an end, in a case that hardly ever happens
# struct seccomp_notif_addfd: id, flags, srcfd, newfd, newfd_flags
_ADDED: Final = struct.Struct("=QIIII")
_IOCTL_ADD: Final = 0x40182103
_FLAG_SEND: Final = 2
# struct sock_filter (linux/filter.h) of two returns: SECCOMP_RET_USER_NOTIF, and SECCOMP_RET_ERRNO with EAFNOSUPPORT
_HAND_OVER: Final = struct.pack("<HBBI", 6, 0, 0, 0x7FC00000)
_REFUSE_FAMILY: Final = struct.pack("<HBBI", 6, 0, 0, 0x00050000 | errno.EAFNOSUPPORT)


@functools.cache
def sandbox_program() -> bytes | None:
    """Return the filter for steps, or None on an architecture that we have none for."""
    return _program("seccomp")


@functools.cache
def owners_program() -> bytes | None:
    """Return the filter that hands changes of ownership to a supervisor, or None on an architecture without one."""
    return _program("owners")


@functools.cache
def fake_root_program(*, standing: bool = False) -> bytes | None:
    """Return the filter for a step without capabilities, see `fake_root`, or None on an architecture without one.

    *standing*: directories stand in ``/`` that the step may not have, see `standing`.
    """
    return _program("standing" if standing else "fake_root")


@functools.cache
def sockets_program() -> bytes | None:
    """Return the filter that hands a hidden making of sockets to a supervisor, or None on an architecture without such a call."""
    return _program("sockets")


def refusing(program: bytes) -> bytes:
    """Return `sockets_program` with a refusal in place of the supervisor."""
    size = len(_HAND_OVER)
    instructions = (program[at : at + size] for at in range(0, len(program), size))
    return b"".join(_REFUSE_FAMILY if each == _HAND_OVER else each for each in instructions)


def _program(name: str) -> bytes | None:
    machine = "aarch64" if syscalls.MACHINE == "arm64" else syscalls.MACHINE
    try:
        return Path(__file__).with_name(f"{name}_{machine}.bpf").read_bytes()
    except FileNotFoundError:
        return None


def install(program: bytes) -> None:
    """Filter the system calls of this thread and all its children, for good. Needs SYS_ADMIN or no_new_privs."""
    syscalls.seccomp_set_filter(program, syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW)


def install_listener(program: bytes, *, patient: bool = False) -> int:
    """Like `install`; return the descriptor from which a supervisor receives the calls.

    Of *patient* callers no signal but a deadly one withdraws a call that was received (Linux 5.19).
    """
    flags = syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW | syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
    if patient:
        try:
            return syscalls.seccomp_set_filter(program, flags | syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
    return syscalls.seccomp_set_filter(program, flags)


@dataclass(slots=True)  # not frozen: that takes three times as long to make, and a compiler's step makes a thousand
class Notification:
    """A system call that waits for our answer; *pid* is a number of the receiver's pid namespace (0: not visible)."""

    id: int
    pid: int
    number: int
    architecture: int
    arguments: tuple[int, ...]

    @classmethod
    def of(cls, raw: RawCall) -> Notification:
        """Return what *raw* tells."""
        return cls(raw[0], raw[RAW_PID], raw[RAW_NUMBER], raw[RAW_ARCHITECTURE], raw[RAW_ARGUMENTS:])


def stay_on_one_processor(listener: int) -> None:
    """Have the supervisor and the caller, of whom one waits for the other, take turns on one processor (Linux 6.6)."""
    with suppress(OSError):
        fcntl.ioctl(listener, _IOCTL_SET_FLAGS, _SYNC_WAKE_UP)


def receive(listener: int) -> Notification | None:
    """Wait for the next call; None when it was withdrawn (its process was killed meanwhile)."""
    raw = _receive_raw(listener)
    return None if raw is None else Notification.of(raw)


def _receive_raw(listener: int) -> RawCall | None:
    buffer = bytearray(_NOTIFICATION.size)  # the kernel wants zeroes
    try:
        fcntl.ioctl(listener, _IOCTL_RECEIVE, buffer, True)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    return _NOTIFICATION.unpack(buffer)


def notifications(listener: int) -> Iterator[Notification]:
    """Give the calls that wait for an answer until the filter has no user left."""
    return map(Notification.of, _until_unused(listener))


def _until_unused(listener: int) -> Iterator[RawCall]:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        for _, events in poll.poll():
            if not events & select.POLLIN:  # POLLHUP: nobody is left who could call
                return
            raw = _receive_raw(listener)
            if raw is not None:
                yield raw


class Channel:
    """Receives calls one by one, and may answer them from the buffer that they come in: for tens of thousands.

    `words` shows the call that was received last, as numbers of 64 bits: which it is at `CALL` (see `call_of`), and each argument from
    `ARGUMENTS` on. `pid` is its process.
    """

    CALL, ARGUMENTS = 2, 4
    #: what may become of a call: it is given to whoever asked for calls, or goes on (as False and True), or ends without or with EFAULT
    LEFT, GOES_ON, DONE, FAULT = 0, 1, 2, 3

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._buffer = ctypes.create_string_buffer(_NOTIFICATION.size)
        self.words = memoryview(self._buffer).cast("B").cast("Q")
        self.pid = ctypes.c_int.from_buffer(self._buffer, 8)
        self._receive = syscalls.repeated_ioctl(listener, _IOCTL_RECEIVE, self._buffer, reason=False)
        self._receive_first = syscalls.repeated_ioctl(listener, _IOCTL_RECEIVE, self._buffer)
        self._response = memoryview(self._buffer).cast("B")[: _RESPONSE.size]
        self._ask = syscalls.repeated_ioctl(listener, _IOCTL_ID_VALID, self._buffer, reason=False)

    @staticmethod
    def call_of(architecture: int, number: int) -> int:
        """Return what `words` shows of the call with this *number*."""
        first, second = (number, architecture) if sys.byteorder == "little" else (architecture, number)
        return second << 32 | first

    def waits(self) -> bool:
        """Do what `still_waiting` does, for the call that was received last."""
        # A signal interrupts. The buffer begins with the number of the call.
        return not self._ask() or _is_valid(self._listener, self._buffer)

    def calls(self, pidfd: int, passes: Callable[[], int] = lambda: 0) -> Iterator[RawCall]:
        """Give all for which *passes* says `LEFT`, until the child of ours behind *pidfd* has ended. In the main thread only.

        No poll(2) is done for each: the signal of the child's end interrupts us. It may come just before we wait, where nothing is
        interrupted. So a timer does that now and then.
        """
        woken = False

        def wake(_number: int, _frame: object) -> None:
            nonlocal woken
            woken = True

        receive, send, buffer = self._receive, fcntl.ioctl, self._buffer
        listener, response, after_id = self._listener, self._response, self._response[_ID.size :]
        unpack, clear = _NOTIFICATION.unpack, _NOTHING.pack_into
        before = [(number, signal.signal(number, wake)) for number in _WAKING]
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_MISSED, _SECONDS_MISSED)
        try:
            while not select.select([pidfd], [], [], 0)[0]:
                woken = False
                take = self._receive_first  # which can tell what is wrong, if something is
                while not woken:
                    if take() < 0:
                        number = ctypes.get_errno()
                        if take is not receive and number not in (errno.ENOENT, errno.EINTR):
                            raise OSError(number, os.strerror(number))
                        break
                    take = receive
                    if outcome := passes():  # the response begins with the same number
                        after_id[:] = _RESPONSES[outcome]
                        try:
                            send(listener, _IOCTL_SEND, response, True)
                        except OSError:
                            self._send_again()
                    else:
                        yield unpack(buffer)
                    clear(buffer, 0)  # the kernel wants that
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before:
                signal.signal(number, handler)

    def _send_again(self) -> None:
        """Send a response that was interrupted, unless its process was killed meanwhile."""
        _respond(self._listener, bytes(self._response))


def still_waiting(listener: int, notification: Notification) -> bool:
    """Tell whether the process still waits; if not, its pid may already name another one."""
    return _is_valid(listener, bytearray(_ID.pack(notification.id)))


def proceed(listener: int, notification: Notification) -> None:
    """Let the kernel do the call as if there were no filter (Linux 5.5)."""
    _respond(listener, _RESPONSE.pack(notification.id, 0, 0, _FLAG_CONTINUE))


def answer(listener: int, notification: Notification, *, value: int = 0, error: int = 0) -> None:
    """Let the call return *value*, or fail with *error*, without the kernel doing anything."""
    _respond(listener, _RESPONSE.pack(notification.id, value, -error, 0))


def answer_with_descriptor(listener: int, notification: Notification, fd: int, *, close_on_exec: bool) -> None:
    """Let the call return a descriptor of its process for the open file behind *fd*; OSError (EMFILE) if it may have no more."""
    flags = os.O_CLOEXEC if close_on_exec else 0

    def add(how: int) -> int:
        request = _ADDED.pack(notification.id, how, fd, 0, flags)
        # Interrupted, it would take the descriptor back, but not that the call returns.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
        try:
            return syscalls.ioctl_buffer(listener, _IOCTL_ADD, ctypes.create_string_buffer(request, len(request)))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    try:
        add(_FLAG_SEND)
    except OSError as err:
        if err.errno == errno.ENOENT:  # its process was killed meanwhile
            return
        if err.errno != errno.EINVAL:
            raise
        _respond(listener, _RESPONSE.pack(notification.id, add(0), 0, 0))  # before Linux 5.14


def _is_valid(listener: int, content: bytearray | ctypes.Array[ctypes.c_char]) -> bool:
    try:
        _tell(listener, _IOCTL_ID_VALID, content)
    except OSError:
        return False
    return True


def _respond(listener: int, response: bytes) -> None:
    try:
        _tell(listener, _IOCTL_SEND, bytearray(response))
    except OSError as err:
        if err.errno != errno.ENOENT:  # its process was killed meanwhile
            raise


def _tell(listener: int, request: int, content: bytearray | ctypes.Array[ctypes.c_char]) -> None:
    """Do an ioctl(2); what can be changed takes half the time, since the interpreter tries for that first."""
    while True:
        try:
            fcntl.ioctl(listener, request, content, True)
        except InterruptedError:  # before anything was done
            continue
        return
