"""The permissions of files that hinder their owner but not root: given while they are needed, and noted.

Who has no capability, and owns all files, can give himself every permission that root has anyway. So a file that its owner may not read,
and a directory that he may not use, get these bits, and the attribute ``user.img.mode`` says what the mode really is: to the step, and to
whoever makes a layer (`img_core.files.xattrs`). The tree is never closed to the builder, which has no capability either, and a builder that
is killed leaves nothing to be put back. The permission to write a file is given when somebody opens it for that.

A *name* is a path that starts at a directory of /proc, our working directory, or an absolute one.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from img_core.files.xattrs import MODE, parse_mode

__all__ = ["Permissions"]

_ALL_OF_A_DIRECTORY: Final = 0o700
_ALL_OF_A_FILE: Final = 0o600
_LEAST_OF_A_FILE: Final = 0o400
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class Permissions:
    """All files of *uid* are ours. *plain* is emptied when a file gets a note, see `owner_records`."""

    def __init__(self, uid: int, plain: set[tuple[int, int]]) -> None:
        self._uid = uid
        self._plain = plain
        self.masked = False  #: some process may make files that are closed to their owner
        #: modes of files that cannot have a note, by device and inode
        self.special: dict[tuple[int, int], int] = {}

    def need(self, name: bytes, wanted: int) -> os.stat_result:
        """Let the owner have the *wanted* bits of a file, links followed; return what it was. Raises OSError if there is none."""
        try:
            info = os.stat(name)
        except PermissionError:
            self.free_way(name)
            info = os.stat(name)
        if info.st_uid == self._uid and info.st_mode & wanted != wanted:
            self._open(name, info, wanted)
        return info

    def keep_set_id(self, name: bytes | str) -> None:
        """Note the mode of a program with set-id bits, which the kernel takes away when somebody without capabilities writes it."""
        info = os.stat(name)
        if info.st_uid == self._uid and stat.S_ISREG(info.st_mode) and info.st_mode & _SET_ID:
            self._note(name, info, self.mode_of(name, info))

    def free_way(self, name: bytes) -> None:
        """Make the directories on the way to *name* searchable, which somebody has closed in a way that we did not see."""
        with suppress(OSError):
            at = name.find(b"/", 1)
            while at > 0:
                info = os.stat(name[:at])
                if stat.S_ISDIR(info.st_mode) and info.st_uid == self._uid and not info.st_mode & stat.S_IXUSR:
                    self._open(name[:at], info, _ALL_OF_A_DIRECTORY)
                at = name.find(b"/", at + 1)

    def mode_of(self, name: bytes | str, info: os.stat_result) -> int:
        """Return the mode that a file is to have."""
        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            with suppress(OSError):  # it has no note
                noted = parse_mode(os.getxattr(name, MODE))
                if noted is not None:
                    return noted
        elif (info.st_dev, info.st_ino) in self.special:
            return self.special[info.st_dev, info.st_ino]
        return stat.S_IMODE(info.st_mode)

    def is_closed(self, mode: int, *, directory: bool) -> bool:
        """Tell whether a file of that mode needs a note."""
        least = _ALL_OF_A_DIRECTORY if directory else _LEAST_OF_A_FILE
        return mode & least != least

    def change(self, name: bytes | str, mode: int) -> bool:
        """Give a file its mode if that takes a note, else remove the note and return False: the kernel is to do it. Raises OSError."""
        info = os.stat(name)
        directory = stat.S_ISDIR(info.st_mode)
        if info.st_uid != self._uid or not (directory or stat.S_ISREG(info.st_mode)):
            return False
        if not self.is_closed(mode, directory=directory):
            if self.mode_of(name, info) != stat.S_IMODE(info.st_mode):
                self._note(name, info, None)
            return False
        self._note(name, info, mode)
        os.chmod(name, mode | (_ALL_OF_A_DIRECTORY if directory else _LEAST_OF_A_FILE))
        return True

    def _open(self, name: bytes, info: os.stat_result, wanted: int) -> None:
        mode = self.mode_of(name, info)
        directory = stat.S_ISDIR(info.st_mode)
        if directory or stat.S_ISREG(info.st_mode):
            self._note(name, info, mode)
        now = stat.S_IMODE(info.st_mode)
        os.chmod(name, now | wanted | (_ALL_OF_A_DIRECTORY if directory else 0))

    def _note(self, name: bytes | str, info: os.stat_result, mode: int | None) -> None:
        """Note the mode of a file, or that there is none to note, which takes the permission to write it."""
        self._plain.clear()
        now = stat.S_IMODE(info.st_mode)
        if not now & stat.S_IWUSR:
            os.chmod(name, now | stat.S_IWUSR)
        if mode is None:
            os.removexattr(name, MODE)
        else:
            os.setxattr(name, MODE, b"%o" % mode)
        if not now & stat.S_IWUSR:
            os.chmod(name, now)
