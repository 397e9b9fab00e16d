"""Exchange the names of a directory of the container with those of a directory of a tree, and back.

* A name that the container did not have, or whose own entry waits under the hidden name, is the tree's;
* a hidden name is the container's.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs, rootlock

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HOME", "LINK", "SYSTEM", "Exchange", "in_the_way", "stays"]

#: the top-level directory in which all of img lives, state included; it stays where it is
HOME: Final = rootlock.HOME.lstrip("/")
#: what the container itself has, and keeps: the kernel's own files
SYSTEM: Final = frozenset(("proc", "sys", "dev"))
#: a link to the note: who finds it may have another state directory than who left it
LINK: Final = rootlock.NOTE

_HIDDEN: Final = ".img-aside-"
#: a mount point; a directory of a lower layer of an overlay
_CANNOT_MOVE: Final = (errno.EBUSY, errno.EXDEV)
_ATTRIBUTES: Final = "user."
_BOOKS: Final = "user.overlay."  # of a file system


def stays(name: str) -> bool:
    """Tell whether a name of the root directory never moves."""
    return name in SYSTEM or name == HOME or _is_book(name)


def in_the_way(name: str) -> OSError:
    """Return the error for an entry that a tree has and that the container cannot move; *name* is its path without the first slash."""
    return OSError(errno.EBUSY, f"the image has `/{name}`, and the container's own cannot be moved away", f"/{name}")


def _is_book(name: str) -> bool:
    return name == LINK or name.startswith(_HIDDEN)


@dataclass(slots=True)
class Exchange:
    """The directory *root* of the container, *name* as seen from its root directory (empty: that itself), and the directory *tree*."""

    root: str
    tree: str
    name: str
    #: of the tree's directory: last access and change before, and change when it is in place (ns)
    _times: tuple[int, int, int] | None = field(default=None, init=False)
    #: names of the container that cannot be moved and no tree has, and when each changed (ns)
    _volumes: dict[str, int] = field(default_factory=dict, init=False)

    def check(self) -> None:
        """Raise OSError for a name that no tree may have."""
        taken = next((name for name in self._coming() if self._stays(name)), "")
        if taken:
            raise in_the_way(os.path.join(self.name, taken))

    def _coming(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.tree) if self.name or name not in SYSTEM]
        except FileNotFoundError:
            return []

    def _stays(self, name: str) -> bool:
        return _is_book(name) if self.name else stays(name)

    def record(self) -> dict[str, Any]:  # Any: JSON
        """Return what `leave` has to know of the container."""
        info = os.stat(self.root)
        return {"had": os.listdir(self.root), "looks": [info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)]}

    def enter(self) -> None:
        """Put the tree's names into the place. Raises OSError, with some of them there."""
        coming = self._coming()
        before = os.stat(self.tree) if os.path.isdir(self.tree) else None
        for name in os.listdir(self.root):
            if not self._stays(name) and not self._put_aside(name, wanted=name in coming):
                coming.remove(name)
        for name in coming:
            fs.rename(f"{self.tree}/{name}", os.path.join(self.root, name))
        if before is not None:
            _give_looks(self.root, before)
            if self.name:
                _give_attributes(_attributes(self.tree), self.root)
            self._times = (before.st_atime_ns, before.st_mtime_ns, os.stat(self.root).st_mtime_ns)

    def _put_aside(self, name: str, *, wanted: bool) -> bool:
        """Move a name of the container away; return False if the one of the tree has to stay where it is."""
        path = os.path.join(self.root, name)
        try:
            fs.rename(path, os.path.join(self.root, _HIDDEN + name))
        except OSError as err:
            if err.errno not in _CANNOT_MOVE:
                raise
            if wanted and self.name and stat.S_ISREG(os.lstat(path).st_mode):
                return False  # such as /etc/hosts, which the runtime has mounted
            if wanted:
                raise in_the_way(os.path.join(self.name, name)) from err
            self._volumes[name] = self._changed(name)
        return True

    def _changed(self, name: str) -> int:
        return os.lstat(os.path.join(self.root, name)).st_mtime_ns

    def lost(self) -> str:
        """Return the path of a volume that is not as it was, see `RootPlace.lost`."""
        lost = next((name for name, before in self._volumes.items() if self._changed(name) != before), "")
        return lost and os.path.join(self.name, lost)

    def leave(self, record: Mapping[str, Any], *, exists: bool) -> None:  # Any: JSON
        """Bring back what `enter` has done any part of; *exists*: the directory is one of the tree even if there is nothing in it."""
        had, info = frozenset(record["had"]), os.stat(self.root)
        names = os.listdir(self.root)
        hidden = [name for name in names if name.startswith(_HIDDEN)]
        waiting = {name.removeprefix(_HIDDEN) for name in hidden}
        taken = [name for name in names if not self._stays(name) and (name not in had or name in waiting)]
        made = bool(taken or exists) and not os.path.isdir(self.tree)
        if made:
            fs.mkdir(self.tree)
        for name in taken:
            self._take(name)
        if not (taken or exists):
            fs.remove_tree(self.tree)
        elif made or self._times is not None:
            self._give_back_looks(info)
        for name in hidden:
            fs.rename(os.path.join(self.root, name), os.path.join(self.root, name.removeprefix(_HIDDEN)))
        if self.name:
            _give_attributes({}, self.root)
        _set_looks(self.root, *record["looks"])

    def _take(self, name: str) -> None:
        target = f"{self.tree}/{name}"
        if os.path.lexists(target):  # the step put something there, where it has no business
            fs.remove_tree(target)
        fs.rename(os.path.join(self.root, name), target)

    def _give_back_looks(self, info: os.stat_result) -> None:
        """Let the tree's directory look like *info*, that of the container, which a step may have changed."""
        if info.st_uid == os.geteuid():  # else `enter` could not give them either
            _give_looks(self.tree, info)
        if self.name:
            _give_attributes(_attributes(self.root), self.tree)
        accessed, before, entered = self._times or (info.st_atime_ns, 0, 0)
        os.utime(self.tree, ns=(accessed, before if info.st_mtime_ns == entered else info.st_mtime_ns))


def _give_looks(path: str, info: os.stat_result) -> None:
    _set_looks(path, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))


def _set_looks(path: str, uid: int, gid: int, mode: int) -> None:
    now = os.stat(path)
    if (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (uid, gid, mode):
        return
    with suppress(PermissionError):  # one who does not own it
        os.chown(path, uid, gid)
        os.chmod(path, mode)


def _attributes(path: str) -> dict[str, bytes]:
    names = (name for name in os.listxattr(path) if name.startswith(_ATTRIBUTES) and not name.startswith(_BOOKS))
    return {name: os.getxattr(path, name) for name in names}


def _give_attributes(wanted: Mapping[str, bytes], target: str) -> None:
    """Let *target* have these attributes and no others."""
    found = _attributes(target)
    for name in found.keys() - wanted.keys():
        os.removexattr(target, name)
    for name, value in wanted.items():
        if found.get(name) != value:
            os.setxattr(target, name, value)
