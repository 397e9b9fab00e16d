"""Put the tree of a step in the place of the container's root directory, one top-level name after the other, and back.

What the container has under a name waits beside it under a hidden one. Before the first name changes, a note says where the tree belongs
and which names the container had. Together with the names that are there it tells at any moment what has been done, so whoever finds the
note of a killed process can finish the way back (`undo`):

* a name that the container did not have, or whose own entry waits under the hidden name, is the tree's;
* a hidden name is the container's.

Nothing here may look up a user or a host, load code or start a program: those files are the image's while its tree is in place.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs
from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HOME", "RootPlace", "in_the_way", "turn", "undo"]

#: the top-level directory in which all of img lives, state included; it stays where it is
HOME: Final = ".img"
#: what the container itself has, and keeps: the kernel's own files
SYSTEM: Final = frozenset(("proc", "sys", "dev"))

_HIDDEN: Final = ".img-aside-"
#: a link to the note: who finds it may have another state directory than who left it
_LINK: Final = ".img-note"
_ENTRY: Final = "img_executor_swap._place:undo"
#: a mount point; a directory of a lower layer of an overlay
_CANNOT_MOVE: Final = (errno.EBUSY, errno.EXDEV)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATIENCE: Final = 10.0  # seconds


@contextmanager
def turn(root: str) -> Iterator[None]:
    """Hold *root*, which serves one step at a time; wait for others, which may be other processes."""
    fd = os.open(root, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def in_the_way(root: str, name: str) -> OSError:
    """Return the error for an entry that a tree has and that the container cannot move."""
    path = os.path.join(root, name)
    return OSError(errno.EBUSY, f"the image has `/{name}`, and the container's own cannot be moved away", path)


@dataclass(slots=True)
class RootPlace:
    """The place *root* that *tree* takes; *note* is the file that says so meanwhile. Paths are absolute.

    *keeper* is the process that ends those of a step when nobody else can (0: none).
    """

    tree: str
    note: str
    root: str = "/"
    keeper: int = 0
    #: of the tree's root directory: last access and change before, and change when it is in place (ns)
    _times: tuple[int, int, int] | None = field(default=None, init=False)
    #: names of the container that cannot be moved and no tree has, and when each changed (ns)
    _volumes: dict[str, int] = field(default_factory=dict, init=False)

    def enter(self) -> None:
        """Put the tree into the place. Raises OSError; then some of it may be there, and `leave` brings it back."""
        there, coming = os.listdir(self.root), [name for name in os.listdir(self.tree) if name not in SYSTEM]
        if taken := [name for name in coming if _stays(name)]:
            raise in_the_way(self.root, taken[0])
        looks, before = os.stat(self.root), os.stat(self.tree)
        payload = {
            "tree": self.tree,
            "note": self.note,
            "root": self.root,
            "keeper": [self.keeper, _started(self.keeper)],
            "had": there,
            "looks": [looks.st_uid, looks.st_gid, stat.S_IMODE(looks.st_mode)],
        }
        fs.replace_file(self.note, json.dumps({"entry": _ENTRY, "payload": payload}).encode())
        fs.symlink(self.note, self._link)
        for name in there:
            if not _stays(name):
                self._put_aside(name, wanted=name in coming)
        for name in coming:
            fs.rename(f"{self.tree}/{name}", os.path.join(self.root, name))
        _give_looks(self.root, before)
        self._times = (before.st_atime_ns, before.st_mtime_ns, os.stat(self.root).st_mtime_ns)

    def _put_aside(self, name: str, *, wanted: bool) -> None:
        try:
            fs.rename(os.path.join(self.root, name), os.path.join(self.root, _HIDDEN + name))
        except OSError as err:
            if err.errno not in _CANNOT_MOVE:
                raise
            if wanted:
                raise in_the_way(self.root, name) from err
            self._volumes[name] = self._changed(name)

    def _changed(self, name: str) -> int:
        return os.lstat(os.path.join(self.root, name)).st_mtime_ns

    def lost(self) -> str:
        """Return the name of a volume in which a step has made or removed something, which no image will have; empty if there is none."""
        return next((name for name, before in self._volumes.items() if self._changed(name) != before), "")

    def leave(self) -> None:
        """Bring everything back, from whatever `enter` has done and whatever a step has made since. Does nothing without a note."""
        try:
            with open(self.note, "rb") as file:
                payload = json.load(file)["payload"]
        except FileNotFoundError:
            return
        self._bring_back(payload)
        if os.path.islink(self._link):
            fs.unlink(self._link)
        fs.unlink(self.note)

    @property
    def _link(self) -> str:
        return os.path.join(self.root, _LINK)

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

    def _bring_back(self, payload: Mapping[str, Any]) -> None:  # Any: JSON
        had, info = frozenset(payload["had"]), os.stat(self.root)
        names = os.listdir(self.root)
        hidden = [name for name in names if name.startswith(_HIDDEN)]
        waiting = {name.removeprefix(_HIDDEN) for name in hidden}
        if not os.path.isdir(self.tree):  # somebody has collected what is nobody's any more
            self.tree = f"{self.note}.tree"
            fs.mkdir(self.tree)
        for name in names:
            if not _stays(name) and (name not in had or name in waiting):
                self._take(name)
        if info.st_uid == os.geteuid():  # else `enter` could not give them either
            _give_looks(self.tree, info)
        if self._times is not None:
            accessed, before, entered = self._times
            os.utime(self.tree, ns=(accessed, before if info.st_mtime_ns == entered else info.st_mtime_ns))
        for name in hidden:
            fs.rename(os.path.join(self.root, name), os.path.join(self.root, name.removeprefix(_HIDDEN)))
        uid, gid, mode = payload["looks"]
        _set_looks(self.root, uid, gid, mode)

    def _take(self, name: str) -> None:
        target = f"{self.tree}/{name}"
        if os.path.lexists(target):  # the step put something there, where it has no business
            fs.remove_tree(target)
        fs.rename(os.path.join(self.root, name), target)


def _stays(name: str) -> bool:
    return name in SYSTEM or name in (HOME, _LINK) or name.startswith(_HIDDEN)


def _give_looks(path: str, info: os.stat_result) -> None:
    _set_looks(path, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode))


def _set_looks(path: str, uid: int, gid: int, mode: int) -> None:
    now = os.stat(path)
    if (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (uid, gid, mode):
        return
    with suppress(PermissionError):  # one who does not own it
        os.chown(path, uid, gid)
        os.chmod(path, mode)


def undo(payload: Mapping[str, Any]) -> None:  # Any: JSON
    """Bring back what a process that was killed has left in place; *payload* is that of its note. Waits for a living one."""
    with turn(payload["root"]):
        _finish(payload)


def _finish(payload: Mapping[str, Any]) -> None:  # Any: JSON
    _wait_for_end(*payload["keeper"])  # with it the last process of the step is gone
    RootPlace(payload["tree"], payload["note"], payload["root"]).leave()


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot (proc_pid_stat(5)); empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""


def _wait_for_end(pid: int, started: str) -> None:
    try:
        process = syscalls.pidfd_open(pid)
    except OSError:  # it has ended
        return
    try:
        if started and _started(pid) == started:
            poll = select.poll()
            poll.register(process, select.POLLIN)
            poll.poll(_PATIENCE * 1000)
    finally:
        os.close(process)
