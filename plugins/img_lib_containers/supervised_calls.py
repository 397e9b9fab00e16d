"""The system calls that a filter hands to the supervisor of a step, and where their arguments are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from img_lib_containers import call_numbers

__all__ = ["CALLS", "NUMBERS", "SupervisedCall"]


@dataclass(frozen=True, slots=True)
class SupervisedCall:
    """How a call passes its arguments; each is a position, -1 if it has none.

    Without a *path* the file is the one behind the descriptor *directory*; without a *directory* a path starts at the working directory.
    """

    #: entry, enter, access, mode, root, umask, write and those of attributes are for `fake_root` alone
    kind: str  #: owner, stat, stat64, statx, identity, open, directory, link, node, program or keep
    path: int = -1
    directory: int = -1
    flags: int = -1
    other: int = -1  #: a second path, such as the new name of a file, and its directory
    other_directory: int = -1
    value: int = -1  #: of the first argument that belongs to the kind: ids, a buffer, a mode, the text of a link
    follow: bool = True  #: a last component that is a link, unless *flags* hold AT_SYMLINK_NOFOLLOW
    name: str = ""  #: of an identity call, without a number of bits; and of rmdir
    bits: int = 32  #: of an id


_CALLS: Final = {
    "chown": SupervisedCall("owner", path=0, value=1),
    "lchown": SupervisedCall("owner", path=0, value=1, follow=False),
    "fchown": SupervisedCall("owner", directory=0, value=1),
    "fchownat": SupervisedCall("owner", path=1, directory=0, value=2, flags=4),
    "stat": SupervisedCall("stat", path=0, value=1),
    "lstat": SupervisedCall("stat", path=0, value=1, follow=False),
    "fstat": SupervisedCall("stat", directory=0, value=1),
    "newfstatat": SupervisedCall("stat", path=1, directory=0, value=2, flags=3),
    "stat64": SupervisedCall("stat64", path=0, value=1),
    "lstat64": SupervisedCall("stat64", path=0, value=1, follow=False),
    "fstat64": SupervisedCall("stat64", directory=0, value=1),
    "fstatat64": SupervisedCall("stat64", path=1, directory=0, value=2, flags=3),
    "statx": SupervisedCall("statx", path=1, directory=0, value=4, flags=2),
    "open": SupervisedCall("open", path=0, flags=1, value=2),
    "openat": SupervisedCall("open", path=1, directory=0, flags=2, value=3),
    "creat": SupervisedCall("open", path=0, value=1),
    "mkdir": SupervisedCall("directory", path=0, value=1),
    "mkdirat": SupervisedCall("directory", path=1, directory=0, value=2),
    "symlink": SupervisedCall("link", path=1, value=0),
    "symlinkat": SupervisedCall("link", path=2, directory=1, value=0),
    "mknod": SupervisedCall("node", path=0, value=1),
    "mknodat": SupervisedCall("node", path=1, directory=0, value=2),
    "unlink": SupervisedCall("entry", path=0),
    "unlinkat": SupervisedCall("entry", path=1, directory=0, flags=2),
    "rmdir": SupervisedCall("entry", path=0, name="rmdir"),
    "rename": SupervisedCall("entry", path=0, other=1),
    "renameat": SupervisedCall("entry", path=1, directory=0, other=3, other_directory=2),
    "renameat2": SupervisedCall("entry", path=1, directory=0, other=3, other_directory=2),
    "link": SupervisedCall("entry", path=0, other=1),
    "linkat": SupervisedCall("entry", path=1, directory=0, other=3, other_directory=2),
    "chdir": SupervisedCall("enter", path=0),
    "access": SupervisedCall("access", path=0, value=1),
    "faccessat": SupervisedCall("access", path=1, directory=0, value=2),
    "faccessat2": SupervisedCall("access", path=1, directory=0, value=2, flags=3),
    "chmod": SupervisedCall("mode", path=0, value=1),
    "fchmod": SupervisedCall("mode", directory=0, value=1),
    "fchmodat": SupervisedCall("mode", path=1, directory=0, value=2),
    "fchmodat2": SupervisedCall("mode", path=1, directory=0, value=2, flags=3),
    "chroot": SupervisedCall("root", path=0),
    "umask": SupervisedCall("umask"),
    "truncate": SupervisedCall("write", path=0),
    "setxattr": SupervisedCall("set attribute", path=0, value=1),
    "lsetxattr": SupervisedCall("set attribute", path=0, value=1, follow=False),
    "fsetxattr": SupervisedCall("set attribute", directory=0, value=1),
    "getxattr": SupervisedCall("get attribute", path=0, value=1),
    "lgetxattr": SupervisedCall("get attribute", path=0, value=1, follow=False),
    "fgetxattr": SupervisedCall("get attribute", directory=0, value=1),
    "removexattr": SupervisedCall("remove attribute", path=0, value=1),
    "lremovexattr": SupervisedCall("remove attribute", path=0, value=1, follow=False),
    "fremovexattr": SupervisedCall("remove attribute", directory=0, value=1),
    "prctl": SupervisedCall("keep", value=1),
    "execve": SupervisedCall("program", path=0),
    "execveat": SupervisedCall("program", path=1, directory=0, flags=4),
}
_IDENTITY: Final = """
getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
""".split()  # noqa: SIM905
_CALLS.update({name: SupervisedCall("identity", name=name) for name in _IDENTITY})
#: of 32-bit machines, whose old calls have ids of 16 bits
_WIDE: Final = ("chown", "lchown", "fchown", *_IDENTITY)

#: name -> number on each of `ARCHITECTURES`, or -1: those of the calls above, also where ids have a number of bits
NUMBERS: Final = {name: numbers for name, numbers in call_numbers.NUMBERS.items() if name.removesuffix("32") in _CALLS}


def _of(architecture: int) -> dict[int, SupervisedCall]:
    found, numbers = {}, call_numbers.numbers_of(architecture)
    for name in NUMBERS.keys() & numbers.keys():
        base = name.removesuffix("32")
        narrow = name in _WIDE and f"{name}32" in numbers
        found[numbers[name]] = replace(_CALLS[base], bits=16 if narrow else 32)
    return found


#: AUDIT_ARCH_… -> number -> call
CALLS: Final[dict[int, dict[int, SupervisedCall]]] = {item: _of(item) for item in call_numbers.ARCHITECTURES}
