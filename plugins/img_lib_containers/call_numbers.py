"""The numbers of the system calls that supervisors of steps answer or refuse, on each machine: asm/unistd.h of each; they never change."""

from __future__ import annotations

from typing import Final

__all__ = ["AARCH64", "ARCHITECTURES", "ARM", "I386", "NUMBERS", "X86_64", "numbers_of"]

#: AUDIT_ARCH_… of linux/audit.h
X86_64: Final = 0xC000003E
I386: Final = 0x40000003
AARCH64: Final = 0xC00000B7
ARM: Final = 0x40000028

#: in the order of the numbers below
ARCHITECTURES: Final = (X86_64, I386, AARCH64, ARM)

#: name -> number on each, or -1. Left out is the family of stat on arm but statx, and what both call ``stat`` and ``statfs``, which is
#: older than their programs: these show what the kernel knows.
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
    "readlink": (89, 85, -1, 85),
    "readlinkat": (267, 305, 78, 332),
    "openat2": (437, 437, 437, 437),
    "statfs": (137, -1, 43, -1),
    "statfs64": (-1, 268, -1, 266),
    "listxattr": (194, 232, 11, 232),
    "llistxattr": (195, 233, 12, 233),
    "utimensat": (280, 412, 88, 412),
    "utimensat32": (-1, 320, -1, 348),
    "socket": (41, 359, 198, 281),
    "socketcall": (-1, 102, -1, -1),
    "prlimit64": (302, 340, 261, 369),
    "kill": (62, 37, 129, 37),
    "tkill": (200, 238, 130, 238),
    "tgkill": (234, 270, 131, 268),
    "rt_sigqueueinfo": (129, 178, 138, 178),
    "rt_tgsigqueueinfo": (297, 335, 240, 363),
    "pidfd_open": (434, 434, 434, 434),
    "ptrace": (101, 26, 117, 26),
    "process_vm_readv": (310, 347, 270, 376),
    "process_vm_writev": (311, 348, 271, 377),
}


def numbers_of(architecture: int) -> dict[str, int]:
    """Return the calls that *architecture* has, by name."""
    position = ARCHITECTURES.index(architecture)
    return {name: numbers[position] for name, numbers in NUMBERS.items() if numbers[position] >= 0}
