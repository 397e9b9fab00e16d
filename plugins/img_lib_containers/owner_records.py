"""The owners that a step gave to files that cannot have them, noted where the rest of img finds them (`img_core.files.ownership`).

Regular files and directories carry their owner in the attribute ``user.img.owner``; of symlinks and special files the inode number is
remembered until the step ends. What has no note is root's; in a step of another user what root makes gets one, because all that has none
at its end is given to that user.

A *name* is a magic link of a /proc that is the working directory, such as ``self/fd/7``: what is open as a path only can be changed
through it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from img_core.files.ownership import OWNER_ATTRIBUTE, parse_owner
from img_core.files.xattrs import RECORDED_CAPABILITY
from img_core.linux import syscalls
from img_lib_containers.owner_calls import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["KEEP", "OwnerRecords"]

KEEP: Final = -1
_ROOT: Final = (0, 0)
_OVERLAY: Final = 0x794C7630  # linux/magic.h

Ids = tuple[int, int]


class OwnerRecords:
    """Notes of one step, whose tree lies on *device* (-1: on several); *root_is_noted* in steps of another user."""

    def __init__(self, device: int, *, root_is_noted: bool = False) -> None:
        self.inodes: dict[tuple[int, int], Ids] = {}
        self.others = False  #: some inode has, or had, another owner than root
        #: device and inode of files that are known to have no note; whoever writes one empties this
        self.plain: set[tuple[int, int]] = set()
        self._device = device
        self.root_is_noted = root_is_noted
        self._mounted: set[tuple[int, int]] = set()

    def add_mounted(self, sockets: Iterable[Sequence[int]]) -> None:
        """Note what `containers.mounted_sockets` says."""
        for device, inode, uid, gid, _mode in sockets:
            self._remember((device, inode), (uid, gid))
            self._mounted.add((device, inode))

    def of_the_tree(self) -> list[tuple[int, int, int, int]]:
        """Return device, inode, user and group of all files of the tree that carry no note themselves."""
        return [(*key, *owner) for key, owner in self.inodes.items() if key not in self._mounted]

    def owner(self, name: str | bytes) -> Ids | None:
        """Return the owner that is noted of a file. Raises OSError if there is no such file."""
        noted = _noted(name)
        if noted is None and self.inodes:
            status = os.stat(name)
            if not _carries(status.st_mode):  # else it has the number of one that is gone
                noted = self.inodes.get((status.st_dev, status.st_ino))
        return noted

    def change(self, name: str, uid: int, gid: int) -> None:
        """Note what chown(2) wants; `KEEP` keeps that half. Raises OSError, `Refusal`."""
        status = os.stat(name)
        if _carries(status.st_mode):
            try:
                self._mark(name, uid, gid)
            except OSError as err:
                # Elsewhere, e.g. in /dev/shm, owners do not matter; of the image they must not get lost without a word.
                if err.errno == errno.ENOTSUP and self._is_ours(name, status):
                    raise Refusal(errno.ENOTSUP) from err
                raise
            _clear_privileges(name, status)
        elif self._is_ours(name, status):
            os.chown(
                name, KEEP, KEEP
            )  # no change, but an overlay copies the file up, so that it becomes part of the layer
            key = status.st_dev, status.st_ino
            self._remember(key, _merged(self.inodes.get(key), uid, gid))

    def mode(self, name: str, status: os.stat_result) -> int:
        """Return the mode that a file has for the step."""
        del name
        return stat.S_IMODE(status.st_mode)

    def is_plain(self, owner: Ids, mode: int, kind: str, directory: bytes | str) -> bool:
        """Tell whether there is nothing to note of a new file in *directory*; *kind* is that of the call that makes it."""
        del mode, directory
        # One that carries no note may have the number of one that is gone.
        return owner == _ROOT and not self.root_is_noted and not (self.others and kind in ("link", "node"))

    def own(self, name: str, owner: Ids, mode: int) -> None:
        """Note the owner of a new file; *mode* is what it was made with. Raises OSError."""
        del mode
        status = os.stat(name)
        if _carries(status.st_mode):
            if owner != _ROOT or self.root_is_noted:
                self._write(name, owner)
        elif self._is_ours(name, status):
            self._remember((status.st_dev, status.st_ino), owner)

    def _remember(self, key: tuple[int, int], owner: Ids) -> None:
        self.inodes[key] = owner
        if owner != _ROOT:
            self.others = True
            self.plain.clear()  # there may be one that had this number

    def _is_ours(self, name: str, status: os.stat_result) -> bool:
        """Tell whether a file may be one of the tree; an overlay with layers on several file systems shows several devices."""
        return self._device in (-1, status.st_dev) or _is_on_overlay(name)

    def _mark(self, name: str, uid: int, gid: int) -> None:
        """Write the attribute of a regular file or directory, or remove it; file systems without attributes are fine."""
        noted = _noted(name)
        owner = _merged(noted, uid, gid)
        if owner == noted or (noted is None and owner == _ROOT and not self.root_is_noted):
            os.chown(name, KEEP, KEEP)  # like the real one: a new change time, and errors of a read-only mount
        elif owner == _ROOT and not self.root_is_noted:
            os.removexattr(name, OWNER_ATTRIBUTE)
        else:
            self._write(name, owner)

    def _write(self, name: str, owner: Ids) -> None:
        self.plain.clear()
        _write(name, owner)


def _is_on_overlay(name: str) -> bool:
    fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
    try:
        return int.from_bytes(syscalls.raw_statfs(fd)[:8], sys.byteorder) == _OVERLAY
    finally:
        os.close(fd)


def _carries(mode: int) -> bool:
    """Tell whether a file can carry a note itself."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _merged(noted: Ids | None, uid: int, gid: int) -> Ids:
    old_uid, old_gid = noted or _ROOT
    return (old_uid if uid == KEEP else uid, old_gid if gid == KEEP else gid)


def _noted(name: str | bytes) -> Ids | None:
    try:
        return parse_owner(os.getxattr(name, OWNER_ATTRIBUTE))
    except OSError:
        return None


def _write(name: str, owner: Ids) -> None:
    """Write the attribute; who has no capabilities needs the permission to write for it."""
    value = b"%d:%d" % owner
    try:
        os.setxattr(name, OWNER_ATTRIBUTE, value)
    except PermissionError:
        mode = stat.S_IMODE(os.stat(name).st_mode)
        if mode & stat.S_IWUSR:
            raise
        os.chmod(name, mode | stat.S_IWUSR)
        try:
            os.setxattr(name, OWNER_ATTRIBUTE, value)
        finally:
            os.chmod(name, mode)


def _clear_privileges(name: str, status: os.stat_result) -> None:
    """Take set-id bits and file capabilities from a program that changes hands, as the kernel does."""
    if not stat.S_ISREG(status.st_mode):
        return
    mode = stat.S_IMODE(status.st_mode)
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        kept &= ~stat.S_ISGID
    if kept != mode:
        os.chmod(name, kept)
    for capability in ("security.capability", RECORDED_CAPABILITY):
        with suppress(OSError):  # it had none
            os.removexattr(name, capability)
