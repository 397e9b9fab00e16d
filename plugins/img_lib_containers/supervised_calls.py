"""The system calls that a filter hands to the supervisor of a step: their numbers, and where their arguments are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["CALLS", "I386", "NUMBERS", "SupervisedCall"]

I386: Final = 0x40000003
#: AUDIT_ARCH_… of x86_64, i386, aarch64 and arm, see linux/audit.h
_ARCHITECTURES: Final = (0xC000003E, I386, 0xC00000B7, 0x40000028)


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

#: name -> number on x86_64, i386, aarch64 and arm, or -1. Left out is the family of stat on arm but statx, and what both call ``stat``,
#: which is older than their programs: these show the owners that the kernel knows.
NUMBERS: Final = {
    "chown": (92, 182, -1, 182),
    "chown32": (-1, 212, -1, 212),
    "lchown": (94, 16, -1, 16),
    "lchown32": (-1, 198, -1, 198),
    "fchown": (93, 95, 55, 95),
    "fchown32": (-1, 207, -1, 207),
    "fchownat": (260, 298, 54, 325),
    "stat": (4, -1, -1, -1),
    "lstat": (6, -1, -1, -1),
    "fstat": (5, -1, 80, -1),
    "newfstatat": (262, -1, 79, -1),
    "stat64": (-1, 195, -1, -1),
    "lstat64": (-1, 196, -1, -1),
    "fstat64": (-1, 197, -1, -1),
    "fstatat64": (-1, 300, -1, -1),
    "statx": (332, 383, 291, 397),
    "open": (2, 5, -1, 5),
    "openat": (257, 295, 56, 322),
    "creat": (85, 8, -1, 8),
    "mkdir": (83, 39, -1, 39),
    "mkdirat": (258, 296, 34, 323),
    "symlink": (88, 83, -1, 83),
    "symlinkat": (266, 304, 36, 331),
    "mknod": (133, 14, -1, 14),
    "mknodat": (259, 297, 33, 324),
    "prctl": (157, 172, 167, 172),
    "execve": (59, 11, 221, 11),
    "execveat": (322, 358, 281, 387),
    "getuid": (102, 24, 174, 24),
    "getuid32": (-1, 199, -1, 199),
    "geteuid": (107, 49, 175, 49),
    "geteuid32": (-1, 201, -1, 201),
    "getgid": (104, 47, 176, 47),
    "getgid32": (-1, 200, -1, 200),
    "getegid": (108, 50, 177, 50),
    "getegid32": (-1, 202, -1, 202),
    "getresuid": (118, 165, 148, 165),
    "getresuid32": (-1, 209, -1, 209),
    "getresgid": (120, 171, 150, 171),
    "getresgid32": (-1, 211, -1, 211),
    "getgroups": (115, 80, 158, 80),
    "getgroups32": (-1, 205, -1, 205),
    "setuid": (105, 23, 146, 23),
    "setuid32": (-1, 213, -1, 213),
    "setgid": (106, 46, 144, 46),
    "setgid32": (-1, 214, -1, 214),
    "setreuid": (113, 70, 145, 70),
    "setreuid32": (-1, 203, -1, 203),
    "setregid": (114, 71, 143, 71),
    "setregid32": (-1, 204, -1, 204),
    "setresuid": (117, 164, 147, 164),
    "setresuid32": (-1, 208, -1, 208),
    "setresgid": (119, 170, 149, 170),
    "setresgid32": (-1, 210, -1, 210),
    "setfsuid": (122, 138, 151, 138),
    "setfsuid32": (-1, 215, -1, 215),
    "setfsgid": (123, 139, 152, 139),
    "setfsgid32": (-1, 216, -1, 216),
    "setgroups": (116, 81, 159, 81),
    "setgroups32": (-1, 206, -1, 206),
    "unlink": (87, 10, -1, 10),
    "unlinkat": (263, 301, 35, 328),
    "rmdir": (84, 40, -1, 40),
    "rename": (82, 38, -1, 38),
    "renameat": (264, 302, 38, 329),
    "renameat2": (316, 353, 276, 382),
    "link": (86, 9, -1, 9),
    "linkat": (265, 303, 37, 330),
    "chdir": (80, 12, 49, 12),
    "access": (21, 33, -1, 33),
    "faccessat": (269, 307, 48, 334),
    "faccessat2": (439, 439, 439, 439),
    "chmod": (90, 15, -1, 15),
    "fchmod": (91, 94, 52, 94),
    "fchmodat": (268, 306, 53, 333),
    "fchmodat2": (452, 452, 452, 452),
    "chroot": (161, 61, 51, 61),
    "umask": (95, 60, 166, 60),
    "truncate": (76, 92, 45, 92),
    "setxattr": (188, 226, 5, 226),
    "lsetxattr": (189, 227, 6, 227),
    "fsetxattr": (190, 228, 7, 228),
    "getxattr": (191, 229, 8, 229),
    "lgetxattr": (192, 230, 9, 230),
    "fgetxattr": (193, 231, 10, 231),
    "removexattr": (197, 235, 14, 235),
    "lremovexattr": (198, 236, 15, 236),
    "fremovexattr": (199, 237, 16, 237),
}


def _of(position: int) -> dict[int, SupervisedCall]:
    found = {}
    for name, numbers in NUMBERS.items():
        number, base = numbers[position], name.removesuffix("32")
        if number >= 0:
            narrow = base == name and name in _WIDE and NUMBERS.get(name + "32", (-1,) * 4)[position] >= 0
            found[number] = replace(_CALLS[base], bits=16 if narrow else 32)
    return found


#: AUDIT_ARCH_… -> number -> call
CALLS: Final[dict[int, dict[int, SupervisedCall]]] = {
    architecture: _of(position) for position, architecture in enumerate(_ARCHITECTURES)
}
