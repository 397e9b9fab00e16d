"""The system calls that the supervisor answers, and those that act on processes, with their numbers and arguments.

For the machine itself and for the 32-bit programs that its kernel runs, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from img_core.linux import syscalls
from img_lib_containers import call_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ABIS", "CALLS", "NAMINGS", "Abi", "Call", "Naming", "abis_of"]


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
    "execveat": Call("execute", 1, 0, 4),
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
class Naming:
    """How a call that gives a name to something, which may be a link, passes its arguments."""

    kind: Literal["makes", "links", "renames"]
    text: int  #: what a link made by it says, or the path that the thing has already
    name: int  #: its new path
    flags: int = -1  #: of renameat2(2)


_NAMINGS: Final = {
    "symlink": Naming("makes", 0, 1),
    "symlinkat": Naming("makes", 0, 2),
    "link": Naming("links", 0, 1),
    "linkat": Naming("links", 1, 3),
    "rename": Naming("renames", 0, 1),
    "renameat": Naming("renames", 1, 3),
    "renameat2": Naming("renames", 1, 3, 4),
}

#: Names of calls on processes, and the position of the process among their arguments.
_ON_PROCESSES: Final = {
    **dict.fromkeys(("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open"), 0),
    "ptrace": 1,
    **dict.fromkeys(("process_vm_readv", "process_vm_writev"), 0),
}


@dataclass(frozen=True, slots=True)
class Abi:
    """One way to call the kernel of this machine: *architecture* is its AUDIT_ARCH_…"""

    architecture: int
    prctl: int
    socket: int
    prlimit: int
    #: calls that act on a process, and the position of its number
    on_processes: Mapping[int, int]
    #: names of calls that the supervisor answers, with their numbers
    names: Mapping[str, int]
    #: the same of calls that give names, which it only takes note of
    named: Mapping[str, int]
    socketcall: int = -1

    @property
    def calls(self) -> dict[int, Call]:
        """The calls that the supervisor answers, by number."""
        return {number: {**_AT, **_OLD}[name] for name, number in self.names.items()}

    @property
    def namings(self) -> dict[int, Naming]:
        """The calls that give names, by number."""
        return {number: _NAMINGS[name] for name, number in self.named.items()}


def _answered(numbers: Mapping[str, int]) -> dict[str, int]:
    found = {name: numbers[name] for name in {**_AT, **_OLD} if name in numbers}
    # Programs use the forms with wide ids.
    return found | {name: numbers[f"{name}32"] for name in ("chown", "lchown") if f"{name}32" in numbers}


def _abi(architecture: int, *, answers: bool = True) -> Abi:
    numbers = call_numbers.numbers_of(architecture)
    return Abi(
        architecture,
        numbers["prctl"],
        numbers["socket"],
        numbers["prlimit64"],
        {numbers[name]: position for name, position in _ON_PROCESSES.items()},
        _answered(numbers) if answers else {},
        {name: numbers[name] for name in _NAMINGS if name in numbers},
        numbers.get("socketcall", -1),
    )


def abis_of(machine: str) -> tuple[Abi, ...]:
    """Return the ABIs of a *machine*, as uname(2) calls it, its own first; none if we do not know it."""
    match machine:
        case "x86_64":
            return _abi(call_numbers.X86_64), _abi(call_numbers.I386)
        case "aarch64":
            return _abi(call_numbers.AARCH64), _abi(call_numbers.ARM, answers=False)
    return ()


#: of this machine
ABIS: Final = abis_of(syscalls.MACHINE)

#: architecture -> number -> how to read it
CALLS: Final[dict[int, dict[int, Call]]] = {abi.architecture: abi.calls for abi in ABIS}

#: the same for those that give names
NAMINGS: Final[dict[int, dict[int, Naming]]] = {abi.architecture: abi.namings for abi in ABIS}
