"""What a step was lent comes back when its builder is killed, from wherever `covers.Covers` had put it.

A cache mount is in the tree of the step that has it, and that tree is thrown away with the run directory of a dead builder. So before the
first one goes there, a note in that directory (`locks.UNDO`) says what lies where, and whoever finds it has `undo` done before anything is
removed: each thing is in one place at any moment, so where it is tells what has been done. The same holds for what covers a place in
something that is lent, such as the file of a secret, and for what was there before.

The note is on the disk before anything moves, and is removed after the last thing is back. File systems with a journal keep the order of
such changes (rename(2), unlink(2)), so the power may go as well.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs
from img_core.files.locks import UNDO
from img_core.linux import children, syscalls

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GONE", "LendingNote", "is_there", "undo"]

_ENTRY: Final = "img_lib_containers.lending:undo"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: the parent went with what a step removed, or its name is taken by another kind of entry
GONE: Final = (errno.ENOENT, errno.ENOTDIR)


def is_there(parent: int, name: bytes | str) -> bool:
    """Tell whether the directory *parent* has an entry *name*."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class LendingNote:
    """The note of one step, in the run directory *directory*, about the tree *root_fd*. *keeper* ends the step when the builder is dead."""

    def __init__(self, root_fd: int, directory: str, keeper: int) -> None:
        self._root_fd = root_fd
        self._directory = directory
        self._name = f"{UNDO}.{os.urandom(8).hex()}"
        self._keeper = keeper
        self._places: list[dict[str, Any]] = []  # Any: JSON

    def add(self, parent: int, name: bytes, aside: str, lent: tuple[str, int] = ("", 0)) -> None:
        """Say that the place *name* in *parent* will be covered, and what was there wait at *aside* (empty: nothing was).

        *lent*: the path and the inode number of a directory that goes there. Says nothing while no directory of others is lent.
        """
        origin, inode = lent
        if not self._places and (not origin or origin.startswith(f"{self._directory}/")):
            return
        tree, path = (os.readlink(f"/proc/self/fd/{fd}") for fd in (self._root_fd, parent))
        place = {"parent": os.path.relpath(path, tree), "name": os.fsdecode(name), "aside": aside}
        self._places.append({**place, "origin": origin, "inode": inode})
        keeper = [self._keeper, children.started(self._keeper)]
        note = {"entry": _ENTRY, "payload": {"tree": tree, "keeper": keeper, "places": self._places}}
        fs.replace_file(f"{self._directory}/{self._name}", json.dumps(note).encode())
        fs.sync_files(self._directory, [self._name])

    def remove(self) -> None:
        """Forget all: everything is where it was."""
        if self._places:
            fs.unlink(f"{self._directory}/{self._name}")


def undo(payload: Mapping[str, Any]) -> None:  # Any: JSON
    """Bring back what a killed builder had lent; *payload* is that of its note. May itself be killed, and done again."""
    children.wait_for_end(*payload["keeper"])  # with it the last process of the step is gone
    try:
        tree = os.open(payload["tree"], _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        for place in reversed(payload["places"]):  # what lies in something that is lent was covered after it
            _uncover(tree, place)
    finally:
        os.close(tree)


def _uncover(tree: int, place: Mapping[str, Any]) -> None:  # Any: JSON
    parent = _parent(tree, place)
    if parent < 0:
        return
    try:
        name, aside = place["name"], place["aside"]
        if place["origin"]:
            _take_back(parent, name, place)
        if not aside or os.path.lexists(aside):
            fs.remove_tree(name, dir_fd=parent)
        if os.path.lexists(aside):
            fs.rename(aside, name, dir_fd=parent)
    finally:
        os.close(parent)


def _take_back(parent: int, name: str, place: Mapping[str, Any]) -> None:  # Any: JSON
    if os.path.lexists(place["origin"]) or not is_there(parent, name):
        return
    if os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino == place["inode"]:
        fs.rename(name, place["origin"], source_dir_fd=parent)


def _parent(tree: int, place: Mapping[str, Any]) -> int:  # Any: JSON
    """Open the directory that has *place*; return -1 if there is none any more."""
    try:
        return syscalls.openat2(tree, place["parent"], _DIRECTORY)
    except OSError as err:
        if err.errno not in (*GONE, errno.ELOOP):
            raise
        return -1
