"""Directories that stand in ``/`` while a step runs, whether its tree has them or not: nobody there may make or remove one.

A tree gets its place in them (`img_executor_swap`). The supervisor makes a step believe that those are missing which its tree lacks, until
the step makes one, and lets it remove one that is empty.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from img_core.files.ownership import OWNER_ATTRIBUTE
from img_core.files.xattrs import MODE
from img_lib_containers.owner_answers import STAT_KINDS, Asked, flags_of_opening
from img_lib_containers.owner_calls import Refusal

if TYPE_CHECKING:
    from img_lib_containers.owner_records import OwnerRecords

__all__ = ["StandingDirectories"]

_REMOVE_DIRECTORY: Final = 0x200  # AT_REMOVEDIR
_NEW: Final = 0o755
_MAKES: Final = ("link", "node")
_REMARKS: Final = (OWNER_ATTRIBUTE, os.fsdecode(MODE))


class StandingDirectories:
    """The directories with these *paths*; of those that are *absent* the tree has none, which changes with what the step does."""

    def __init__(self, paths: frozenset[bytes], absent: set[bytes]) -> None:
        self._names = {path[1:]: path for path in paths}
        self._absent = absent

    def may_mean(self, path: bytes) -> bool:
        """Tell whether a path has the last name of one, so that `meant` has to look."""
        return path.rstrip(b"/").rpartition(b"/")[2] in self._names

    def meant(self, asked: Asked) -> bytes:
        """Return the path of the one that a call is about; empty if it is about none. Raises `Refusal`."""
        path = asked.path()
        if path is None:
            return b""
        head, slash, name = path.rstrip(b"/").rpartition(b"/")
        known = self._names.get(name, b"")
        if not known or (slash and not head):
            return known
        try:
            above = head if head.startswith(b"/") else self._above(asked, head)
            return known if os.path.samestat(os.stat(above), os.stat("/")) else b""
        except OSError:
            return b""

    @staticmethod
    def _above(asked: Asked, head: bytes) -> bytes:
        return os.fsencode(asked.caller.descriptor(asked.directory)) + b"/" + head

    def answer(self, path: bytes, asked: Asked, records: OwnerRecords, owner: tuple[int, int]) -> bool:
        """Do what a call asks of *path*, or return False if the kernel is to do it. Raises OSError, `Refusal`."""
        if path in self._absent:
            return self._answer_absent(path, asked, records, owner)
        if asked.call.kind == "entry" and _removes_directory(asked):
            if owner[0]:
                raise Refusal(errno.EACCES)
            if os.listdir(path):
                raise Refusal(errno.ENOTEMPTY)
            self._absent.add(path)
            return True
        return False

    def _answer_absent(self, path: bytes, asked: Asked, records: OwnerRecords, owner: tuple[int, int]) -> bool:
        kind = asked.call.kind
        if kind == "directory" and not owner[0]:
            mode = asked.arguments[asked.call.value] & ~int(asked.caller.status()["Umask"], 8) & 0o1777
            name = os.fsdecode(path)
            for remark in _REMARKS:
                if remark in os.listxattr(name):
                    os.removexattr(name, remark)
            os.chmod(name, mode)
            records.own(name, owner, mode)
            self._absent.discard(path)
            return True
        if kind in ("directory", *_MAKES) or (kind == "open" and flags_of_opening(asked) & os.O_CREAT):
            raise Refusal(errno.EACCES)
        if kind in ("entry", "enter", "access") or (kind in STAT_KINDS and asked.follow):
            raise Refusal(errno.ENOENT)
        return False  # whoever lists the root directory comes here next, and finds an empty one


def _removes_directory(asked: Asked) -> bool:
    if asked.call.flags < 0:
        return asked.call.name == "rmdir"
    return bool(asked.arguments[asked.call.flags] & _REMOVE_DIRECTORY)
