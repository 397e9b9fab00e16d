"""Locks between processes: named locks without files of their own, and run directories that tell whether their owner still lives."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.linux.spans import span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["UNDO", "RunDirectory", "boot_of", "ensure_directory", "live_runs", "lock", "lock_file", "sweep", "undo"]

#: The name of a file that a process puts into its run directory before it changes something outside of it: JSON with ``entry``
#: (``module:function``) and ``payload``. If it is killed, `sweep` calls the function with the payload, which is a mapping. There may be
#: more whose names begin so, with a dot after it, which come later.
UNDO = "undo.json"

# Open-file-description locks (fcntl(2)): unlike POSIX record locks they belong to the open file, so threads exclude each other too
# and closing another descriptor of the file does not drop them. Python's fcntl module has no names for them before 3.13.
_F_OFD_SETLK = 37
_FLOCK = struct.Struct("hh4xqqi4x")


def ensure_directory(path: str) -> None:
    """Make *path* and its missing parents, readable by the user only and in the user's own group."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        ensure_directory(parent)
    try:
        if os.stat(parent or ".").st_mode & stat.S_ISGID:
            _make_in_shared_directory(path)
        else:
            fs.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def _make_in_shared_directory(path: str) -> None:
    """Make *path* without the group of its set-group-ID parent, in one step: half of that would stay for ever."""
    new = f"{path}.{os.urandom(4).hex()}"
    fs.make_private(new)
    try:
        fs.rename(new, path)
    except OSError as err:
        fs.rmdir(new)
        if err.errno != errno.ENOTEMPTY:  # somebody else made it meanwhile, and uses it
            raise


def _byte_of(name: str) -> int:
    import hashlib  # OpenSSL; not for who only writes a log

    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


@contextmanager
def lock(directory: str, name: str, *, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock *name* of the state *directory* during the block.

    A name is one byte, chosen by hash, of the file ``locks``: a crash leaves nothing, and 2**56 places make collisions a theory.
    *check* is called while waiting, every 0.1 s at least; it raises to give up.
    """
    descriptor = os.open(os.path.join(directory, "locks"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _byte_of(name), 1, 0)
        if not _try_lock(descriptor, request):
            with span("lock", name):
                _wait_until(lambda: _try_lock(descriptor, request), check)
        yield
    finally:
        os.close(descriptor)


def lock_file(descriptor: int, check: Callable[[], None]) -> None:
    """Take the flock(2) of the open file *descriptor*, which goes when that is closed; *check* as in `lock`."""

    def taken() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    _wait_until(taken, check)


def _wait_until(taken: Callable[[], bool], check: Callable[[], None]) -> None:
    pause = 0.001
    while not taken():
        check()
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _try_lock(descriptor: int, request: bytes) -> bool:
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLK, request)
    except OSError as err:
        if err.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


class RunDirectory:
    """A private directory for half-made things, ``<state>/run/<id>``, locked as long as this process lives.

    Its name ends with what this process calls the *boot* of the machine. Who can lock somebody's directory knows that its owner is gone
    and removes it: see `sweep`.
    """

    def __init__(self, state: str, boot: str = "") -> None:
        parent = os.path.join(state, "run")
        ensure_directory(parent)
        self._count = 0
        self._descriptor = -1
        self.path = os.path.join(parent, f"{os.urandom(8).hex()}.{boot}")
        # Shared: only excludes a sweep, which could otherwise take the directory between its making and its locking.
        with _held(parent, fcntl.LOCK_SH):
            try:
                fs.mkdir(self.path, 0o700)
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            except BaseException:  # a build that is stopped as it begins
                self._remove()
                raise

    def new_path(self, prefix: str) -> str:
        """Return a path in the directory that nothing uses yet."""
        self._count += 1
        return os.path.join(self.path, f"{prefix}-{self._count}-{os.urandom(4).hex()}")

    def close(self) -> None:
        """Remove the directory with all that is left in it; what cannot be removed now is left to the next `sweep`."""
        if self._descriptor >= 0:
            self._remove()

    def _remove(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        try:
            with suppress(OSError):
                fs.remove_tree(self.path)
        finally:
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def _held(directory: str, how: int) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def boot_of(run: str) -> str:
    """Return the *boot* that was given for the run directory called *run*."""
    return run.partition(".")[2]


def live_runs(state: str) -> set[str]:
    """Return the names of the run directories whose owners live."""
    parent = os.path.join(state, "run")
    live = set()
    for name in os.listdir(parent) if os.path.isdir(parent) else []:
        try:
            descriptor = os.open(
                os.path.join(parent, name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            )
        except OSError:
            continue
        try:
            with _held(parent, fcntl.LOCK_EX):  # see RunDirectory: none is between its making and its locking
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            live.add(name)
        finally:
            os.close(descriptor)
    return live


def sweep(state: str) -> int:
    """Remove the run directories of processes that are gone, after undoing what they left half-done (`UNDO`); return how many.

    Afterwards that is undone, whoever did it: another process may be at it, and is waited for. Call it where foreign-owned files can be
    removed: inside the user namespace.
    """
    parent = os.path.join(state, "run")
    removed = 0
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return 0
    for name in names:
        removed += _remove_if_abandoned(parent, os.path.join(parent, name))
    return removed


def undo(path: str) -> None:
    """Have done what the dead owner of a run directory would have done at last; *path* is that of its `UNDO`."""
    if not os.path.exists(path):
        return
    import json
    from importlib import import_module

    with open(path, "rb") as file:
        wanted = json.load(file)
    module, _, function = wanted["entry"].partition(":")
    getattr(import_module(module), function)(wanted["payload"])


def _remove_if_abandoned(parent: str, path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        with lock(os.path.dirname(parent), "undo"):
            with _held(parent, fcntl.LOCK_EX):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in sorted(os.listdir(descriptor)):
                if name == UNDO or name.startswith(f"{UNDO}."):
                    undo(os.path.join(path, name))
        fs.remove_tree(path)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
