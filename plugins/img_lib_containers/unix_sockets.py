"""A filter of system calls for who is to have no network, where no namespace can be made: sockets of the unix family alone."""

from __future__ import annotations

import errno
import struct
from typing import Final

from img_core.linux import syscalls
from img_core.spec.errors import HostError

__all__ = ["unix_sockets_only"]

# struct sock_filter (linux/filter.h) as code, jumps, value; offsets in struct seccomp_data: nr, arch, …, args
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EAFNOSUPPORT
_AF_UNIX: Final = 1
_X32: Final = 0x40000000

#: AUDIT_ARCH_…, the number of socket(2), and those of calls that make sockets in 32-bit programs
_MACHINES: Final = {"x86_64": (0xC000003E, 41, (102, 359)), "aarch64": (0xC00000B7, 198, (281, 281))}


def unix_sockets_only() -> bytes:
    """Return the filter. 32-bit programs get no sockets at all. Raises HostError on a machine whose calls are not known."""
    known = _MACHINES.get(syscalls.MACHINE)
    if known is None:
        raise HostError(f"without namespaces `--network=none` is not possible on {syscalls.MACHINE}")
    native, socket, foreign = known
    code = (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 4, 0, native),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_EQUAL, 7, 0, foreign[0]),
        (_IF_EQUAL, 6, 0, foreign[1]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _NUMBER),  # of a native call
        (_IF_AT_LEAST, 3, 0, _X32),
        (_IF_EQUAL, 0, 3, socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_IF_EQUAL, 1, 0, _AF_UNIX),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *each) for each in code)
