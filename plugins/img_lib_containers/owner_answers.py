"""Answers to the calls about files whose owners are only noted: who owns it, give it away, make one, execute one.

Each function returns True if it has answered the call, and False if the kernel is to do it. So does every error that the kernel will find
by itself.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.files.xattrs import hands_down_a_list
from img_core.linux import syscalls
from img_lib_containers import seccomp
from img_lib_containers.identities import after_program
from img_lib_containers.owner_calls import Caller, Refusal
from img_lib_containers.owner_records import KEEP, OwnerRecords

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_lib_containers.identities import ProcessIds
    from img_lib_containers.seccomp import Notification
    from img_lib_containers.supervised_calls import SupervisedCall

__all__ = [
    "STAT_KINDS",
    "Asked",
    "Shown",
    "flags_of_opening",
    "give_away",
    "has_no_note",
    "identity_of_program",
    "make",
    "may_make",
    "show",
]

STAT_KINDS: Final = ("stat", "stat64", "statx")

#: where the ids are in ``struct stat`` (x86_64 and others, see stat(2)) and ``struct statx``
_IDS_IN_STAT: Final = 28 if syscalls.MACHINE == "x86_64" else 24
_IDS_IN_STATX: Final = 20
_MODE_IN_STAT: Final = 24 if syscalls.MACHINE == "x86_64" else 16
_MODE_IN_STATX: Final = 28
_INODE_IN_STAT: Final = 8
_INODE_IN_STATX: Final = 32
_IDS: Final = struct.Struct("=II")
_INODE: Final = struct.Struct("=Q")
_MODE: Final = struct.Struct("=H")  # all that a mode has
#: ``struct stat64`` of i386: device, inode, mode, links, ids, device, size, block size, blocks, three times, inode
_STAT64: Final = struct.Struct("<Q4x5IQ4xqIQ6IQ")
_OWN_FILES: Final = (b"/proc/self/", b"/proc/thread-self/", b"/dev/fd/")
_MAGIC: Final = (b"/proc/", b"/dev/f")
_OWN_DESCRIPTOR: Final = re.compile(rb"(?:/proc/(?:thread-)?self|/dev)/fd/([0-9]{1,9})")
_ROOT: Final = (b"/", b"/.")
_ITSELF: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_CHAIN: Final = 8  # of symlinks
_WITHOUT_NAME: Final = os.O_TMPFILE & ~os.O_DIRECTORY
_MAKING: Final = os.O_CREAT | _WITHOUT_NAME


class Asked:
    """One call: what its caller means."""

    def __init__(self, caller: Caller, call: SupervisedCall, notification: Notification) -> None:
        self.caller = caller
        self.call = call
        self.arguments = notification.arguments
        self._path: bytes | None = None
        self._is_read = False
        self._flags = self.arguments[call.flags] if call.flags >= 0 else 0
        self.follow = call.follow and not self._flags & syscalls.AT_SYMLINK_NOFOLLOW

    @property
    def directory(self) -> int:
        """Its descriptor of a directory."""
        return self.arguments[self.call.directory] if self.call.directory >= 0 else syscalls.AT_FDCWD

    def path(self) -> bytes | None:
        """Return the path, or None if it is about a descriptor. Raises `Refusal`."""
        if not self._is_read:
            self._path = self._read_path()
            self._is_read = True
        return self._path

    def _read_path(self) -> bytes | None:
        if self.call.path < 0:
            return None
        pointer = self.arguments[self.call.path]
        empty_allowed = self.call.flags >= 0 and bool(self._flags & syscalls.AT_EMPTY_PATH)
        path = b"" if empty_allowed and not pointer else self.caller.read_path(pointer)
        if path:
            return path
        if empty_allowed:
            return None
        raise Refusal(errno.ENOENT)

    def file(self) -> str:
        """Return a magic link to the file. Raises OSError, `Refusal`."""
        path = self.path()
        if path is None:
            return self.caller.descriptor(self.directory)
        if path in _ROOT and self.caller.root:
            return self.caller.root
        own = _OWN_DESCRIPTOR.fullmatch(path) if self.follow else None
        if own is not None:
            return self.caller.descriptor(int(own[1]))
        return f"self/fd/{self.caller.resolve(self.directory, path, follow=self.follow)}"


# --- who owns it ------------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A file behind a magic link, and its owner and mode (-1: the real one) as a step is to see it."""

    name: str | bytes
    owner: tuple[int, int]
    mode: int = -1


def show(asked: Asked, listener: int, notification: Notification, look: Callable[[Asked], Shown | None]) -> bool:
    """Answer the stat family where *look* says how a file is shown."""
    try:
        shown = look(asked)
        if shown is None:
            return False
        data = _status(asked, shown)
    except (OSError, Refusal):
        return False
    if not seccomp.still_waiting(listener, notification):
        return True
    asked.caller.write_memory(asked.arguments[asked.call.value], data)
    seccomp.answer(listener, notification)
    return True


def has_no_note(asked: Asked, path: bytes) -> bool:
    """Tell in one call what is true of nearly all files. Raises OSError."""
    if path[:1] != b"/" or path[:6] in _MAGIC:
        return False
    asked.caller.enter_root()
    try:
        os.getxattr(path, OWNER_ATTRIBUTE, follow_symlinks=asked.follow)
    except OSError:
        return True
    return False


def _status(asked: Asked, shown: Shown) -> bytes:
    fd = os.open(shown.name, os.O_PATH | os.O_CLOEXEC)
    try:
        if asked.call.kind == "stat64":
            return _status64(os.fstat(fd), shown)
        if asked.call.kind == "statx":
            at, mode_at, data = (
                _IDS_IN_STATX,
                _MODE_IN_STATX,
                bytearray(syscalls.raw_statx(fd, asked.arguments[3] & 0xFFFFFFFF)),
            )
        else:
            at, mode_at, data = _IDS_IN_STAT, _MODE_IN_STAT, bytearray(syscalls.raw_stat(fd))
    finally:
        os.close(fd)
    _IDS.pack_into(data, at, *shown.owner)
    if asked.caller.root and shown.name == asked.caller.root:  # which has a name of its own, and is not to be a loop
        _INODE.pack_into(data, _INODE_IN_STATX if asked.call.kind == "statx" else _INODE_IN_STAT, os.stat("/").st_ino)
    if shown.mode >= 0:
        (mode,) = _MODE.unpack_from(data, mode_at)
        _MODE.pack_into(data, mode_at, stat.S_IFMT(mode) | shown.mode)
    return bytes(data)


def _status64(info: os.stat_result, shown: Shown) -> bytes:
    times = (
        part & 0xFFFFFFFF for ns in (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns) for part in divmod(ns, 10**9)
    )
    return _STAT64.pack(
        info.st_dev,
        info.st_ino & 0xFFFFFFFF,
        info.st_mode if shown.mode < 0 else stat.S_IFMT(info.st_mode) | shown.mode,
        info.st_nlink & 0xFFFFFFFF,
        *shown.owner,
        info.st_rdev,
        info.st_size,
        info.st_blksize,
        info.st_blocks,
        *times,
        info.st_ino,
    )


# --- give it away -----------------------------------------------------------------------------------------------------


def give_away(
    asked: Asked, listener: int, notification: Notification, records: OwnerRecords, identity: ProcessIds
) -> None:
    """Do the chown family. Raises OSError, `Refusal`."""
    try:
        name = asked.file()
    except OSError as err:
        # ELOOP: most likely a magic link.
        harmless = err.errno == errno.ELOOP or (err.errno == errno.ENOENT and _means_own_files(asked))
        raise Refusal(0 if harmless else err.errno or errno.EIO) from err
    uid, gid = (_id(value, asked.call.bits) for value in asked.arguments[asked.call.value : asked.call.value + 2])
    if not identity.capable:
        owner = records.owner(name) or (0, 0)
        if (
            owner[0] != identity.uids[1]
            or uid not in (KEEP, owner[0])
            or not (gid in (KEEP, owner[1]) or identity.is_in(gid))
        ):
            raise Refusal(errno.EPERM)
    if seccomp.still_waiting(listener, notification):
        records.change(name, uid, gid)


def _id(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return KEEP if value == (1 << bits) - 1 else value


def _means_own_files(asked: Asked) -> bool:
    """Tell whether the path ends in the caller's own descriptors, as /dev/stdout does; no layer has such files.

    We do not find them: in the container's /proc we are nobody.
    """
    path = asked.path() or b""
    base = syscalls.AT_FDCWD if path.startswith(b"/") else asked.caller.open(asked.directory)
    for _ in range(_LONGEST_CHAIN):
        if path.startswith(_OWN_FILES):
            return True
        try:
            target = os.readlink(path) if base < 0 else os.readlink(path, dir_fd=base)
        except OSError:
            return False
        path = target if target.startswith(b"/") else path[: path.rfind(b"/") + 1] + target
    return False


# --- make one ---------------------------------------------------------------------------------------------------------


def make(asked: Asked, listener: int, notification: Notification, records: OwnerRecords, identity: ProcessIds) -> bool:
    """Make a file for a caller other than root, or in a directory that hands its group down, and note its owner."""
    try:
        head, name = _place(asked)
        if not name:
            return False
        parent = (
            asked.caller.resolve(asked.directory, head, follow=True) if head else asked.caller.open(asked.directory)
        )
        uid, gid = identity.owner
        if os.fstat(parent).st_mode & stat.S_ISGID:
            gid = (records.owner(f"self/fd/{parent}") or (0, 0))[1]
        mode = 0o777 if asked.call.kind == "link" else asked.arguments[asked.call.value]
        if records.is_plain((uid, gid), mode, asked.call.kind, f"self/fd/{parent}"):
            return False
        fd, mode = _made(asked, parent, name)
    except (OSError, Refusal):  # it is there already, among others
        return False
    try:
        records.own(f"self/fd/{fd}", (uid, gid), mode)
    except OSError:
        pass  # a file system without attributes
    try:
        if asked.call.kind == "open":
            flags = flags_of_opening(asked)
            seccomp.answer_with_descriptor(listener, notification, fd, close_on_exec=bool(flags & os.O_CLOEXEC))
        else:
            seccomp.answer(listener, notification)
    finally:
        os.close(fd)
    return True


def _place(asked: Asked) -> tuple[bytes, bytes]:
    """Return the directory and the name of the file to be made; no name: there is nothing to make."""
    path = asked.path() or b""
    if asked.call.kind == "open":
        flags = flags_of_opening(asked)
        if flags & os.O_PATH:
            return b"", b""
        if flags & _WITHOUT_NAME:
            return path, b"."  # a file without a name, in that directory
    if asked.call.kind == "directory":
        path = path.rstrip(b"/")
    head, slash, name = path.rpartition(b"/")
    return head + slash, b"" if name in (b".", b"..") else name


def may_make(flags: int) -> bool:
    """Tell whether open(2) with *flags* may make a file."""
    return bool(flags & _MAKING)


def flags_of_opening(asked: Asked) -> int:
    """Return what open(2) was asked for."""
    if asked.call.flags < 0:  # creat(2)
        return os.O_CREAT | os.O_WRONLY | os.O_TRUNC
    return asked.arguments[asked.call.flags] & 0xFFFFFFFF


def _made(asked: Asked, parent: int, name: bytes) -> tuple[int, int]:
    """Make what is asked for; return a descriptor of it, and its mode. Raises OSError."""
    kind = asked.call.kind
    if kind == "link":
        os.symlink(asked.caller.read_path(asked.arguments[asked.call.value]), name, dir_fd=parent)
        return os.open(name, _ITSELF, dir_fd=parent), 0o777
    listed = hands_down_a_list(f"self/fd/{parent}")
    mode = asked.arguments[asked.call.value] & ~(0 if listed else int(asked.caller.status()["Umask"], 8))
    if kind == "open":
        flags = flags_of_opening(asked) | os.O_CLOEXEC
        if not flags & _WITHOUT_NAME:
            flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = os.open(name, flags, mode & 0o7777, dir_fd=parent)
        return fd, stat.S_IMODE(os.fstat(fd).st_mode) if listed else mode & 0o7777
    if kind == "directory":
        os.mkdir(name, mode & 0o1777, dir_fd=parent)
    else:
        os.mknod(name, mode & 0o177777, dir_fd=parent)
    fd = os.open(name, _ITSELF, dir_fd=parent)
    return fd, stat.S_IMODE(os.fstat(fd).st_mode)


# --- execute one ------------------------------------------------------------------------------------------------------


def identity_of_program(asked: Asked, records: OwnerRecords, identity: ProcessIds) -> ProcessIds:
    """Return who the caller will be in the program that it executes. Raises OSError, `Refusal`."""
    name = asked.file()
    status = os.stat(name)
    mode = records.mode(name, status)
    user = group = None
    if stat.S_ISREG(status.st_mode) and mode & (stat.S_ISUID | stat.S_ISGID) and not _is_script(name):
        owner = records.owner(name) or (0, 0)
        user = owner[0] if mode & stat.S_ISUID else None
        group = owner[1] if mode & stat.S_ISGID and mode & stat.S_IXGRP else None
    return after_program(identity, user, group)


def _is_script(name: str) -> bool:
    """Tell whether set-id bits are ignored."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 2) == b"#!"
    finally:
        os.close(fd)
