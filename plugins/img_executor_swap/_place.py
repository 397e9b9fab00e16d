"""Put the tree of a step in the place of the container's root directory, one top-level name after the other, and back.

What the container has under a name waits beside it under a hidden one. Before the first name changes, a note says where the tree belongs
and which names the container had. Together with the names that are there it tells at any moment what has been done, so whoever finds the
note of a killed process can finish the way back (`undo`). How one directory changes its names with another is in `_exchange`.

Who may not write in the root directory does the same one level deeper (`RootPlace.below`), in those directories of it that are his.

Nothing here may look up a user or a host, load code or start a program: those files are the image's while its tree is in place.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs, rootlock
from img_core.linux import children
from img_executor_swap._exchange import HOME, LINK, SYSTEM, Exchange, in_the_way, stays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ANCHOR", "HOME", "SYSTEM", "RootPlace", "in_the_way", "is_ours", "turn", "undo"]

#: the directory that every place below the root has
ANCHOR: Final = rootlock.PLACES[1]
#: what is a link into it where /usr is merged (hier(7))
_MERGED: Final = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
_ENTRY: Final = "img_executor_swap._place:undo"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def turn(root: str) -> Iterator[None]:
    """Hold *root*, which serves one step at a time; wait for others, which may be other processes."""
    fd = os.open(root, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_ours(path: str) -> bool:
    """Tell whether *path* is a directory of this user, no link to one, in which names can be moved."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and os.access(path, os.W_OK | os.X_OK)


@dataclass(slots=True)
class RootPlace:
    """The place *root* that *tree* takes; *note* is the file that says so meanwhile. Paths are absolute.

    *keeper* is the process that ends those of a step when nobody else can (0: none). *below*: the names in the directories of the root
    change, not its own; `absent` then has the paths of those that the tree lacks, and who makes or removes one for the step says so there.
    """

    tree: str
    note: str
    root: str = "/"
    keeper: int = 0
    below: bool = False
    absent: set[bytes] = field(default_factory=set)
    _exchanges: dict[str, Exchange] = field(default_factory=dict, init=False)
    #: directories of other file systems beside those, and when each changed (ns)
    _volumes: dict[str, int] = field(default_factory=dict, init=False)

    def enter(self) -> None:
        """Put the tree into the place. Raises OSError; then some of it may be there, and `leave` brings it back."""
        self._exchanges = {name: Exchange(*self._pair(name), name) for name in self._names()}
        if self.below:
            self._check()
        for exchange in self._exchanges.values():
            exchange.check()
        payload = {
            "tree": self.tree,
            "note": self.note,
            "root": self.root,
            "keeper": [self.keeper, children.started(self.keeper)],
            "below": self.below,
            "absent": sorted(map(os.fsdecode, self.absent)),
            "places": {name: exchange.record() for name, exchange in self._exchanges.items()},
        }
        fs.replace_file(self.note, json.dumps({"entry": _ENTRY, "payload": payload}).encode())
        fs.symlink(self.note, self._link)
        for exchange in self._exchanges.values():
            exchange.enter()

    def _pair(self, name: str) -> tuple[str, str]:
        return (os.path.join(self.root, name), f"{self.tree}/{name}") if name else (self.root, self.tree)

    def _names(self) -> list[str]:
        """Return the directories whose names change, relative to the root; the empty name is the root itself."""
        if not self.below:
            return [""]
        names, found = sorted(name for name in os.listdir(self.root) if not stays(name)), []
        device = os.lstat(self.tree).st_dev
        for name in names:
            path, info = os.path.join(self.root, name), os.lstat(os.path.join(self.root, name))
            if info.st_dev != device and stat.S_ISDIR(info.st_mode):
                self._volumes[name] = info.st_mtime_ns
            elif is_ours(path):
                found.append(name)
        self.absent |= {b"/" + os.fsencode(name) for name in found if not os.path.lexists(f"{self.tree}/{name}")}
        return found

    def _check(self) -> None:
        """Raise OSError for a name of the tree that has no place in the root directory, where none can be made."""
        for name in sorted(set(os.listdir(self.tree)) - SYSTEM):
            kind = os.lstat(f"{self.tree}/{name}").st_mode
            if stays(name) or name in self._volumes:
                raise in_the_way(name)
            if name in self._exchanges:
                if stat.S_ISDIR(kind):
                    continue
                raise OSError(
                    f"`/{name}` is no directory in the image, but one in the container, where it cannot be exchanged"
                )
            if stat.S_ISLNK(kind) and _link_of(f"{self.tree}/{name}") == _link_of(os.path.join(self.root, name)):
                continue
            if name in _MERGED:
                raise OSError(
                    f"`/{name}` is no link to `{ANCHOR}/{name}` in the image, as it has to be in this container (merged /usr)"
                )
            what = "directory" if stat.S_ISDIR(kind) else "file"
            raise OSError(
                f"the image has the {what} `/{name}`, for which there is no place: in this container only root may make one in `/`, "
                f"so img's own image must have a directory `/{name}`"
                + (" and the file must lie in one" if what == "file" else "")
            )

    @property
    def standing(self) -> frozenset[bytes]:
        """The paths of the directories whose names change, once the tree is in place."""
        return frozenset(b"/" + os.fsencode(name) for name in self._exchanges)

    def lost(self) -> str:
        """Return the path of a volume in which a step has made or removed something, which no image will have; empty if there is none."""
        for name, before in self._volumes.items():
            if os.lstat(os.path.join(self.root, name)).st_mtime_ns != before:
                return name
        return next((lost for exchange in self._exchanges.values() if (lost := exchange.lost())), "")

    def leave(self) -> None:
        """Bring everything back, from whatever `enter` has done and whatever a step has made since. Does nothing without a note."""
        try:
            with open(self.note, "rb") as file:
                payload = json.load(file)["payload"]
        except FileNotFoundError:
            return
        self._bring_back(payload["places"])
        if os.path.islink(self._link):
            fs.unlink(self._link)
        fs.unlink(self.note)

    @property
    def _link(self) -> str:
        return os.path.join(self.root, ANCHOR if self.below else "", LINK)

    def finish_other(self) -> None:
        """Bring back what another process was killed with, if there is something; nobody else has the turn."""
        if not os.path.islink(self._link):
            return
        try:
            with open(self._link, "rb") as file:
                payload = json.load(file)["payload"]
        except FileNotFoundError:  # it came as far as to remove the note, or its state directory is gone
            fs.unlink(self._link)
            return
        _finish(payload)

    def _bring_back(self, places: Mapping[str, Any]) -> None:  # Any: JSON
        if not os.path.isdir(self.tree):  # somebody has collected what is nobody's any more
            self.tree = f"{self.note}.tree"
            fs.mkdir(self.tree)
        for name, record in places.items():
            exchange = self._exchanges.get(name) or Exchange(*self._pair(name), name)
            exchange.tree = self._pair(name)[1]
            exchange.leave(record, exists=b"/" + os.fsencode(name) not in self.absent)


def _link_of(path: str) -> str:
    """Return where a link leads, as seen from the root directory; empty if it is none."""
    try:
        return os.path.normpath(os.readlink(path)).lstrip("/")
    except OSError:
        return ""


def undo(payload: Mapping[str, Any]) -> None:  # Any: JSON
    """Bring back what a process that was killed has left in place; *payload* is that of its note. Waits for a living one."""
    with turn(payload["root"]):
        _finish(payload)


def _finish(payload: Mapping[str, Any]) -> None:  # Any: JSON
    children.wait_for_end(*payload["keeper"])  # with it the last process of the step is gone
    absent = set(map(os.fsencode, payload["absent"]))
    RootPlace(payload["tree"], payload["note"], payload["root"], below=payload["below"], absent=absent).leave()
