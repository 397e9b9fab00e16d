"""The filter of system calls for one step: which calls go to the supervisor, and what is refused because no namespace refuses it.

Classic BPF (seccomp(2)), assembled here because it holds the numbers of our own processes. It says nothing about what a step may do
otherwise: that is the filter of all executors (`img_lib_containers.seccomp`), and that of the container.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CALLS", "NATIVE", "Call", "program"]

_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_NOTIFY: Final = 0x7FC00000
_ERROR: Final = 0x00050000
# struct seccomp_data: nr, arch, instruction_pointer, args[6]
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_X32: Final = 0x40000000
_AF_UNIX: Final = 1
_EVERYBODY: Final = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


@dataclass(frozen=True, slots=True)
class Call:
    """How a call that the supervisor answers passes its arguments; each is a position, -1 if it has none."""

    kind: str  #: open, openat2, readlink, stat, statx, statfs, access, execute, enter or attribute
    path: int = 0
    directory: int = -1
    flags: int = -1
    buffer: int = -1
    follow: bool = True  #: a last component that is a link, unless *flags* hold AT_SYMLINK_NOFOLLOW


_AT: Final = {
    "openat": Call("open", 1, 0, 2),
    "openat2": Call("openat2", 1, 0, 2),
    "readlinkat": Call("readlink", 1, 0, buffer=2, follow=False),
    "newfstatat": Call("stat", 1, 0, 3, 2),
    "statx": Call("statx", 1, 0, 2, 4),
    "faccessat": Call("access", 1, 0),
    "faccessat2": Call("access", 1, 0, 3),
    "execve": Call("execute", 0),
    "chdir": Call("enter", 0),
    "statfs": Call("statfs", 0, buffer=1),
    "getxattr": Call("attribute", 0),
    "lgetxattr": Call("attribute", 0, follow=False),
    "listxattr": Call("attribute", 0),
    "llistxattr": Call("attribute", 0, follow=False),
}
_OLD: Final = {
    "open": Call("open", 0, flags=1),
    "readlink": Call("readlink", 0, buffer=1, follow=False),
    "stat": Call("stat", 0, buffer=1),
    "lstat": Call("stat", 0, buffer=1, follow=False),
    "access": Call("access", 0),
}
_X86_64: Final = {
    "open": 2,
    "stat": 4,
    "lstat": 6,
    "access": 21,
    "readlink": 89,
    "openat": 257,
    "openat2": 437,
    "readlinkat": 267,
    "newfstatat": 262,
    "statx": 332,
    "faccessat": 269,
    "faccessat2": 439,
    "execve": 59,
    "chdir": 80,
    "statfs": 137,
    "getxattr": 191,
    "lgetxattr": 192,
    "listxattr": 194,
    "llistxattr": 195,
}
_GENERIC: Final = {
    "openat": 56,
    "openat2": 437,
    "readlinkat": 78,
    "newfstatat": 79,
    "statx": 291,
    "faccessat": 48,
    "faccessat2": 439,
    "execve": 221,
    "chdir": 49,
    "statfs": 43,
    "getxattr": 8,
    "lgetxattr": 9,
    "listxattr": 11,
    "llistxattr": 12,
}


@dataclass(frozen=True, slots=True)
class _Machine:
    architecture: int  # AUDIT_ARCH_…
    calls: Mapping[str, int]
    prctl: int
    socket: int
    prlimit: int
    #: calls that act on a process, and the position of its number
    on_processes: Mapping[int, int]
    foreign_sockets: Sequence[int] = ()  # socket and socketcall of 32-bit programs


# kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open, then ptrace, process_vm_readv, process_vm_writev
_MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E,
        _X86_64,
        prctl=157,
        socket=41,
        prlimit=302,
        on_processes={62: 0, 200: 0, 234: 0, 129: 0, 297: 0, 434: 0, 101: 1, 310: 0, 311: 0},
        foreign_sockets=(102, 359),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        _GENERIC,
        prctl=167,
        socket=198,
        prlimit=261,
        on_processes={129: 0, 130: 0, 131: 0, 138: 0, 240: 0, 434: 0, 117: 1, 270: 0, 271: 0},
        foreign_sockets=(281,),
    ),
}
_MACHINE: Final = _MACHINES.get(syscalls.MACHINE)

#: AUDIT_ARCH_… of this machine
NATIVE: Final = _MACHINE.architecture if _MACHINE is not None else 0

#: number -> how to read it, of this machine
CALLS: Final[dict[int, Call]] = (
    {number: {**_AT, **_OLD}[name] for name, number in _MACHINE.calls.items()} if _MACHINE is not None else {}
)


def program(protected: Iterable[int], *, network: bool, everybody: bool) -> bytes:
    """Return the filter. *protected* are processes that a step must not touch; without *network* it gets unix sockets alone.

    Without *everybody* a signal to all processes is refused: where Landlock does not keep it inside the step.
    """
    assert _MACHINE is not None
    targets = [number & 0xFFFFFFFF for pid in protected for number in (pid, -pid)]
    groups = [] if everybody else [_EVERYBODY]
    code: list[Instruction] = []
    for number in sorted(_MACHINE.calls.values()):
        call = CALLS[number]
        # Of a descriptor without a path there is nothing to be told: it is how C libraries do fstat(2).
        empty = [_argument(call.flags), (_IF_ANY_BIT, 0, 1, syscalls.AT_EMPTY_PATH), (_RETURN, 0, 0, _ALLOW)]
        code += _block(
            number, [*(empty if call.kind in ("stat", "statx") and call.flags >= 0 else ()), (_RETURN, 0, 0, _NOTIFY)]
        )
    for number, position in _MACHINE.on_processes.items():
        code += _block(number, _unless(position, [*targets, *groups], errno.EPERM))
    # Limits of others, whoever they are: no scope of Landlock covers them.
    code += _block(_MACHINE.prlimit, _only(0, 0, errno.EPERM))
    # A program that hides from ptrace would hide from us, too.
    code += _block(_MACHINE.prctl, _exactly({0: syscalls.PR_SET_DUMPABLE, 1: 0}, 0))
    if not network:
        code += _block(_MACHINE.socket, _only(0, _AF_UNIX, errno.EAFNOSUPPORT))
    foreign: list[Instruction] = []
    for number in () if network else _MACHINE.foreign_sockets:
        foreign += _block(number, [_refuse(errno.EAFNOSUPPORT)])
    foreign.append((_RETURN, 0, 0, _ALLOW))
    start: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, len(foreign) + 1, 0, _MACHINE.architecture),
        (_LOAD, 0, 0, _NUMBER),
        *foreign,
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, _X32),
        _refuse(errno.ENOSYS),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in (*start, *code, (_RETURN, 0, 0, _ALLOW)))


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)


def _block(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """For the call *number*, whose number is loaded: *body*, which returns."""
    return [(_IF_EQUAL, 0, len(body), number), *body]


def _argument(position: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * position)  # the lower half, on little-endian machines


def _unless(position: int, values: Sequence[int], error: int) -> list[Instruction]:
    body = [_argument(position)]
    for value in values:
        body += [(_IF_EQUAL, 0, 1, value), _refuse(error)]
    return [*body, (_RETURN, 0, 0, _ALLOW)]


def _only(position: int, value: int, error: int) -> list[Instruction]:
    return [_argument(position), (_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW), _refuse(error)]


def _exactly(arguments: Mapping[int, int], error: int) -> list[Instruction]:
    """Refuse with *error* (0: pretend success) if all *arguments* are these, allow otherwise."""
    body: list[Instruction] = []
    left = 2 * len(arguments)
    for position, value in arguments.items():
        left -= 2
        body += [_argument(position), (_IF_EQUAL, 0, left + 1, value)]
    return [*body, _refuse(error), (_RETURN, 0, 0, _ALLOW)]
