"""System call filters: the compiled programs, loading them, and answering calls that a filter hands to a supervisor.

The programs are compiled at release time by ``contrib/seccomp/generate.py`` from `seccomp_rules`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from img_core.linux import syscalls

__all__ = [
    "Notification",
    "answer",
    "install",
    "install_listener",
    "owners_program",
    "proceed",
    "receive",
    "sandbox_program",
    "still_waiting",
]

# linux/seccomp.h; struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, instruction_pointer, args[6]
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
# struct seccomp_notif_resp: id, val, error, flags
_RESPONSE: Final = struct.Struct("=QqiI")
_IOCTL_RECEIVE: Final = 0xC0502100
_IOCTL_SEND: Final = 0xC0182101
_IOCTL_ID_VALID: Final = 0x40082102
_FLAG_CONTINUE: Final = 1


@functools.cache
def sandbox_program() -> bytes | None:
    """Return the filter for steps, or None on an architecture that we have none for."""
    return _program("seccomp")


@functools.cache
def owners_program() -> bytes | None:
    """Return the filter that hands changes of ownership to a supervisor, or None on an architecture without one."""
    return _program("owners")


def _program(name: str) -> bytes | None:
    machine = "aarch64" if syscalls.MACHINE == "arm64" else syscalls.MACHINE
    try:
        return Path(__file__).with_name(f"{name}_{machine}.bpf").read_bytes()
    except FileNotFoundError:
        return None


def install(program: bytes) -> None:
    """Filter the system calls of this thread and all its children, for good. Needs SYS_ADMIN or no_new_privs."""
    syscalls.seccomp_set_filter(program, syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW)


def install_listener(program: bytes) -> int:
    """Like `install`; return the descriptor from which a supervisor receives the calls."""
    flags = syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW | syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return syscalls.seccomp_set_filter(program, flags)


@dataclass(frozen=True, slots=True)
class Notification:
    """A system call that waits for our answer; *pid* is a number of the receiver's pid namespace (0: not visible)."""

    id: int
    pid: int
    number: int
    architecture: int
    arguments: tuple[int, ...]


def receive(listener: int) -> Notification | None:
    """Wait for the next call; None when it was withdrawn (its process was killed meanwhile)."""
    buffer = ctypes.create_string_buffer(_NOTIFICATION.size)  # the kernel wants zeroes
    try:
        syscalls.ioctl_buffer(listener, _IOCTL_RECEIVE, buffer)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    identity, pid, _flags, number, architecture, _pointer, *arguments = _NOTIFICATION.unpack(buffer.raw)
    return Notification(identity, pid, number, architecture, tuple(arguments))


def still_waiting(listener: int, notification: Notification) -> bool:
    """Tell whether the process still waits; if not, its pid may already name another one."""
    buffer = ctypes.create_string_buffer(struct.pack("=Q", notification.id), 8)
    try:
        syscalls.ioctl_buffer(listener, _IOCTL_ID_VALID, buffer)
    except OSError:
        return False
    return True


def proceed(listener: int, notification: Notification) -> None:
    """Let the kernel do the call as if there were no filter (Linux 5.5)."""
    _respond(listener, _RESPONSE.pack(notification.id, 0, 0, _FLAG_CONTINUE))


def answer(listener: int, notification: Notification, *, error: int = 0) -> None:
    """Let the call return 0, or fail with *error*, without the kernel doing anything."""
    _respond(listener, _RESPONSE.pack(notification.id, 0, -error, 0))


def _respond(listener: int, response: bytes) -> None:
    try:
        syscalls.ioctl_buffer(listener, _IOCTL_SEND, ctypes.create_string_buffer(response, len(response)))
    except OSError as err:
        if err.errno != errno.ENOENT:  # its process was killed meanwhile
            raise
