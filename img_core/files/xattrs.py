"""Extended attributes that travel with an image, and those that never do."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

__all__ = [
    "CAPABILITY",
    "DEFAULT_LIST",
    "MODE",
    "OWNER",
    "RECORDED_CAPABILITY",
    "Marks",
    "hands_down_a_list",
    "is_portable",
    "opened",
    "parse_mode",
    "parse_owner",
    "portable_capability",
    "read",
    "read_all",
    "write",
]

OWNER = b"user.img.owner"  #: ``uid:gid`` that a single-id mapping could not set
CAPABILITY = b"security.capability"
MODE = b"user.img.mode"  #: permissions, octal, of a file that would be closed to us with them
RECORDED_CAPABILITY = b"user.img.capability"  #: what stands for `CAPABILITY` where nobody may set it
OPAQUE = b"user.overlay.opaque"
DEFAULT_LIST = "system.posix_acl_default"  #: of a directory that hands down an access control list

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


def hands_down_a_list(directory: int | bytes | str) -> bool:
    """Tell whether what is made in *directory* gets its permissions from an access control list there instead of the umask, see acl(5)."""
    try:
        os.getxattr(directory, DEFAULT_LIST)
    except OSError:
        return False
    return True


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


def parse_mode(value: bytes) -> int | None:
    """Read the value of `MODE`; None when it is no mode."""
    try:
        mode = int(value, 8) if len(value) <= 4 else -1
    except ValueError:
        return None
    return mode if 0 <= mode <= 0o7777 else None


def opened(fd: int, mode: int, needed: int) -> int:
    """Return *mode* with the *needed* bits, and note on the open file *fd* that it is *mode* if that is not the same."""
    if mode & needed == needed:
        try:
            os.removexattr(fd, MODE)
        except OSError as err:
            if err.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
        return mode
    os.setxattr(fd, MODE, b"%o" % mode)
    return mode | needed


class Marks(NamedTuple):
    """What is known of a file beyond lstat(2): its portable attributes (None: it has none), and the owner and mode that are noted on it."""

    attributes: dict[bytes, bytes] | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None

    def mode_of(self, mode: int) -> int:
        """Return the permissions (12 bits) that a file is to have whose mode is *mode* on the disk."""
        return stat.S_IMODE(mode) if self.mode is None else self.mode

    def owner_of(self, uid: int, gid: int) -> tuple[int, int]:
        """Return who is to own a file that belongs to *uid* and *gid* on the disk.

        Who is not number 0 can have given no file away: what is ours and has no note is root's, as where our only id is mapped to 0.
        """
        if self.owner is not None:
            return self.owner
        ours = os.geteuid()
        return (0 if uid == ours else uid), (0 if ours and gid == os.getegid() else gid)


def read(fd: int) -> tuple[dict[bytes, bytes] | None, tuple[int, int] | None]:
    """Return the portable attributes of *fd*, None for none, and the owner that is noted on it; `read_all` knows its mode, too."""
    found = read_all(fd)
    return found.attributes, found.owner


def read_all(fd: int) -> Marks:
    """Return what the attributes of *fd* say."""
    try:
        names = os.listxattr(fd)
    except OSError as err:
        if err.errno in _UNSUPPORTED:
            return Marks()
        raise
    if not names:
        return Marks()
    found: dict[bytes, bytes] = {}
    owner = mode = None
    for text in names:
        name = os.fsencode(text)
        if name == OWNER:
            owner = parse_owner(os.getxattr(fd, name))
        elif name == MODE:
            mode = parse_mode(os.getxattr(fd, name))
        elif name == RECORDED_CAPABILITY:
            found[CAPABILITY] = portable_capability(os.getxattr(fd, name))
        elif is_portable(name):
            value = os.getxattr(fd, name)
            found[name] = portable_capability(value) if name == CAPABILITY else value
    return Marks(found or None, owner, mode)


def write(fd: int, attributes: dict[bytes, bytes]) -> list[bytes]:
    """Set the portable ones of *attributes* on *fd*; return the names that this file system or user may not have.

    A capability that may not be set is recorded in `RECORDED_CAPABILITY`, where `read` finds it.
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
            if name != CAPABILITY or not _record_capability(fd, value):
                lost.append(name)
    return lost


def _record_capability(fd: int, value: bytes) -> bool:
    try:
        os.setxattr(fd, RECORDED_CAPABILITY, portable_capability(value))
    except OSError as err:
        if err.errno not in _UNSUPPORTED:
            raise
        return False
    return True
