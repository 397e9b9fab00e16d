"""Extended attributes that travel with an image, and those that never do."""

from __future__ import annotations

import errno
import os

__all__ = ["CAPABILITY", "OWNER", "is_portable", "parse_owner", "portable_capability", "read", "write"]

OWNER = b"user.img.owner"  #: ``uid:gid`` that a single-id mapping could not set
CAPABILITY = b"security.capability"
OPAQUE = b"user.overlay.opaque"

# Control data of overlay file systems would be obeyed by the mount, and our own records would be believed.
_PRIVATE = (b"user.overlay.", b"user.fuseoverlayfs.", b"user.img.")
# Labels and signatures belong to a host, not to an image.
_HOST = (b"security.selinux", b"security.ima", b"security.evm")

_V2_SIZE = 20
_V3_SIZE = 24
_REVISION_MASK = 0xFF000000
_REVISION_2 = 0x02000000
_REVISION_3 = 0x03000000

_UNSUPPORTED = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL)


def is_portable(name: bytes) -> bool:
    """Tell whether attribute *name* belongs into a layer and onto an unpacked file."""
    if name.startswith(b"user."):
        return not name.startswith(_PRIVATE)
    return name.startswith(b"security.") and name not in _HOST


def portable_capability(value: bytes) -> bytes:
    """Return capability data without the root id of a user namespace (revision 3 becomes 2, capabilities(7)).

    The kernel gives revision 3 to whoever reads from outside the namespace that set it. Writing revision 2 from inside
    a namespace makes the kernel add the right root id again.
    """
    if len(value) == _V3_SIZE and int.from_bytes(value[:4], "little") & _REVISION_MASK == _REVISION_3:
        magic = int.from_bytes(value[:4], "little") & ~_REVISION_MASK | _REVISION_2
        return magic.to_bytes(4, "little") + value[4:_V2_SIZE]
    return value


def parse_owner(value: bytes) -> tuple[int, int] | None:
    """Read the value of `OWNER`; None when it is not two numbers."""
    uid, colon, gid = value.partition(b":")
    if colon and uid.isdigit() and gid.isdigit() and len(value) < 24:
        return int(uid), int(gid)
    return None


def read(fd: int) -> tuple[dict[bytes, bytes] | None, tuple[int, int] | None]:
    """Return the portable attributes of *fd*, None for none, and the owner that is recorded on it."""
    try:
        names = os.listxattr(fd)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return None, None
        raise
    if not names:
        return None, None
    found: dict[bytes, bytes] = {}
    owner = None
    for text in names:
        name = os.fsencode(text)
        if name == OWNER:
            owner = parse_owner(os.getxattr(fd, name))
        elif is_portable(name):
            value = os.getxattr(fd, name)
            found[name] = portable_capability(value) if name == CAPABILITY else value
    return found or None, owner


def write(fd: int, attributes: dict[bytes, bytes]) -> list[bytes]:
    """Set the portable ones of *attributes* on *fd*; return the names that this file system or user may not have.

    Raises `OSError` for others, e.g. ``ENOSPC`` when they are too large for the file system.
    """
    lost = []
    for name, value in attributes.items():
        if not is_portable(name) or b"\0" in name:
            continue
        try:
            os.setxattr(fd, name, portable_capability(value) if name == CAPABILITY else value)
        except OSError as err:
            if err.errno not in _UNSUPPORTED:
                raise
            lost.append(name)
    return lost
