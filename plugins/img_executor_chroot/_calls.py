"""The system calls that the supervisor answers, and those that act on processes, with their numbers and arguments.

For the machine itself and for the 32-bit programs that its kernel runs, too. Numbers: asm/unistd.h of each; they never change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ABIS", "CALLS", "X86_64", "Abi", "Call"]

#: AUDIT_ARCH_… of linux/audit.h
X86_64: Final = 0xC000003E
_I386: Final = 0x40000003
_AARCH64: Final = 0xC00000B7
_ARM: Final = 0x40000028


@dataclass(frozen=True, slots=True)
class Call:
    """How a call that the supervisor answers passes its arguments; each is a position, -1 if it has none."""

    #: open, openat2, readlink, stat, stat64, statx, statfs, statfs64, access, execute, enter, attribute, mode, owner, times or times32
    kind: str
    path: int = 0
    directory: int = -1
    flags: int = -1
    buffer: int = -1  #: what is written, or the times that are read
    follow: bool = True  #: a last component that is a link, unless *flags* hold AT_SYMLINK_NOFOLLOW


_AT: Final = {
    "openat": Call("open", 1, 0, 2),
    "openat2": Call("openat2", 1, 0, 2),
    "readlinkat": Call("readlink", 1, 0, buffer=2, follow=False),
    "newfstatat": Call("stat", 1, 0, 3, 2),
    "fstatat64": Call("stat64", 1, 0, 3, 2),
    "statx": Call("statx", 1, 0, 2, 4),
    "faccessat": Call("access", 1, 0),
    "faccessat2": Call("access", 1, 0, 3),
    "execve": Call("execute", 0),
    "chdir": Call("enter", 0),
    "statfs": Call("statfs", 0, buffer=1),
    "statfs64": Call("statfs64", 0, buffer=2),
    "getxattr": Call("attribute", 0),
    "lgetxattr": Call("attribute", 0, follow=False),
    "listxattr": Call("attribute", 0),
    "llistxattr": Call("attribute", 0, follow=False),
    "fchmodat": Call("mode", 1, 0),
    "fchmodat2": Call("mode", 1, 0, 3),
    "fchownat": Call("owner", 1, 0, 4),
    "utimensat": Call("times", 1, 0, 3, 2),
    "utimensat32": Call("times32", 1, 0, 3, 2),
}
_OLD: Final = {
    "open": Call("open", 0, flags=1),
    "creat": Call("open", 0),
    "readlink": Call("readlink", 0, buffer=1, follow=False),
    "stat": Call("stat", 0, buffer=1),
    "lstat": Call("stat", 0, buffer=1, follow=False),
    "stat64": Call("stat64", 0, buffer=1),
    "lstat64": Call("stat64", 0, buffer=1, follow=False),
    "access": Call("access", 0),
    "chmod": Call("mode", 0),
    "chown": Call("owner", 0),
    "lchown": Call("owner", 0, follow=False),
}


@dataclass(frozen=True, slots=True)
class Abi:
    """One way to call the kernel of this machine; *names* are those of the calls above, with their numbers."""

    architecture: int
    prctl: int
    socket: int
    prlimit: int
    #: calls that act on a process, and the position of its number
    on_processes: Mapping[int, int]
    socketcall: int = -1
    names: Mapping[str, int] = field(default_factory=dict)

    @property
    def calls(self) -> dict[int, Call]:
        """The calls that the supervisor answers, by number."""
        return {number: {**_AT, **_OLD}[name] for name, number in self.names.items()}


# The calls on processes: kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open, then ptrace process_vm_readv process_vm_writev.
_OF_X86_64: Final = Abi(
    X86_64,
    prctl=157,
    socket=41,
    prlimit=302,
    on_processes={62: 0, 200: 0, 234: 0, 129: 0, 297: 0, 434: 0, 101: 1, 310: 0, 311: 0},
    names={
        "open": 2, "stat": 4, "lstat": 6, "access": 21, "execve": 59, "chdir": 80, "creat": 85, "readlink": 89, "chmod": 90,
        "chown": 92, "lchown": 94, "statfs": 137, "getxattr": 191, "lgetxattr": 192, "listxattr": 194, "llistxattr": 195,
        "openat": 257, "fchownat": 260, "newfstatat": 262, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "utimensat": 280,
        "statx": 332, "openat2": 437, "faccessat2": 439, "fchmodat2": 452,
    },
)  # fmt: skip
_OF_I386: Final = Abi(
    _I386,
    prctl=172,
    socket=359,
    prlimit=340,
    on_processes={37: 0, 238: 0, 270: 0, 178: 0, 335: 0, 434: 0, 26: 1, 347: 0, 348: 0},
    socketcall=102,
    names={
        "open": 5, "creat": 8, "execve": 11, "chdir": 12, "chmod": 15, "access": 33, "readlink": 85, "stat64": 195,
        "lstat64": 196, "lchown": 198, "chown": 212, "getxattr": 229, "lgetxattr": 230, "listxattr": 232, "llistxattr": 233,
        "statfs64": 268, "openat": 295, "fchownat": 298, "fstatat64": 300, "readlinkat": 305, "fchmodat": 306,
        "faccessat": 307, "utimensat32": 320, "statx": 383, "utimensat": 412, "openat2": 437, "faccessat2": 439, "fchmodat2": 452,
    },
)  # fmt: skip
_OF_AARCH64: Final = Abi(
    _AARCH64,
    prctl=167,
    socket=198,
    prlimit=261,
    on_processes={129: 0, 130: 0, 131: 0, 138: 0, 240: 0, 434: 0, 117: 1, 270: 0, 271: 0},
    names={
        "getxattr": 8, "lgetxattr": 9, "listxattr": 11, "llistxattr": 12, "statfs": 43, "faccessat": 48, "chdir": 49,
        "fchmodat": 53, "fchownat": 54, "openat": 56, "readlinkat": 78, "newfstatat": 79, "utimensat": 88, "execve": 221,
        "statx": 291, "openat2": 437, "faccessat2": 439, "fchmodat2": 452,
    },
)  # fmt: skip
_OF_ARM: Final = Abi(
    _ARM,
    prctl=172,
    socket=281,
    prlimit=369,
    on_processes={37: 0, 238: 0, 268: 0, 178: 0, 363: 0, 434: 0, 26: 1, 376: 0, 377: 0},
)

#: of this machine, its own first; none if we do not know it
ABIS: Final = {"x86_64": (_OF_X86_64, _OF_I386), "aarch64": (_OF_AARCH64, _OF_ARM)}.get(syscalls.MACHINE, ())

#: architecture -> number -> how to read it
CALLS: Final[dict[int, dict[int, Call]]] = {abi.architecture: abi.calls for abi in ABIS}
