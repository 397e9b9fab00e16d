"""A root file system as a directory of the caller: for ``-o type=local`` and ``img unpack``.

`copy_tree` fills a new directory that nobody else uses yet; `merge` moves its content over what a user already has.
Everything is done relative to descriptors; no symlink, of the image or of the destination, is ever followed.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from img_core.files import fs, xattrs
from img_core.files.treewalk import Climber, reading, walk
from img_core.spec.errors import HostError, ImgError, UsageError
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.files.treewalk import Entry
    from img_core.spec.exporter import Tree

__all__ = ["Copied", "CopyPolicy", "copy_tree", "merge"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REMEMBERED = 100  # how many left-out entries are named
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True, slots=True)
class CopyPolicy:
    """*owners*: give files their owners (needs the ids) and setuid bits, else all belong to the caller.

    *epoch* is the time of all files, in seconds since 1970; None: their own.
    """

    owners: bool = False
    epoch: int | None = None


@dataclass(slots=True)
class Copied:
    """What `copy_tree` did. *skipped* names devices and sockets that were left out, at most 100 of them."""

    entries: int = 0
    size: int = 0  #: bytes of file content
    skipped: list[bytes] = field(default_factory=list)
    skipped_count: int = 0


def copy_tree(
    tree: Tree,
    target_fd: int,
    policy: CopyPolicy,
    *,
    admit: Callable[[Entry], bool] | None = None,
    tick: Callable[[int], None] = lambda _bytes: None,
) -> Copied:
    """Copy everything in *tree* into the directory *target_fd*, which holds nothing of the same names.

    *admit* returns False for a directory that *target_fd* has already, and may raise. *tick* gets the bytes copied
    so far after each file and may raise to stop. On failure the caller removes the directory.
    Raises ImgError (disk, permissions) and HostError (ids that cannot be set).
    """
    copier = _Copier(tree, target_fd, policy, admit)
    try:
        for entry in walk(tree.fd):
            copier.take(entry)
            tick(copier.done.size)
    finally:
        copier.close()
    return copier.done


class _Copier:
    """Mirrors a walk below a directory of ours."""

    def __init__(self, tree: Tree, target_fd: int, policy: CopyPolicy, admit: Callable[[Entry], bool] | None) -> None:
        self._admit = admit or (lambda _entry: True)
        self._tree = tree
        self._root = target_fd
        self._here = Climber(target_fd)
        self._policy = policy
        self._links: dict[tuple[int, int], bytes] = {}
        self.done = Copied()

    def close(self) -> None:
        self._here.close()

    def take(self, entry: Entry) -> None:
        """Make one entry; ``OSError`` here is about the destination: what reads the tree is within `reading`."""
        try:
            with fs.disk_errors(entry.path):
                self._take(entry)
        except OSError as err:
            raise ImgError(f"cannot write `{fs.show(entry.path)}`: {why(err)}") from err

    def _take(self, entry: Entry) -> None:
        mode = entry.info.st_mode
        if stat.S_ISDIR(mode):
            self._directory(entry)
            return
        self.done.entries += 1
        self._admit(entry)
        if stat.S_ISREG(mode):
            if not self._hard_link(entry):
                self._file(entry)
        elif stat.S_ISLNK(mode):
            with reading(entry.path):
                to = os.readlink(entry.name, dir_fd=entry.parent_fd)
            fs.symlink(to, entry.name, dir_fd=self._here.fd)
            self._finish_by_name(entry)
        elif stat.S_ISFIFO(mode):
            fs.mutation("mkfifo", entry.path)
            os.mkfifo(entry.name, 0o600, dir_fd=self._here.fd)
            os.chmod(entry.name, stat.S_IMODE(mode), dir_fd=self._here.fd)
            self._finish_by_name(entry)
        else:
            self._skip(entry.path)

    def _directory(self, entry: Entry) -> None:
        """On the way in the directory is ours to fill; on the way out it gets its real mode, owner and times."""
        if not entry.leaving:
            self.done.entries += 1
            if self._admit(entry):
                fs.mkdir(entry.name, 0o700, dir_fd=self._here.fd)
            self._here.down(entry.name)
            return
        made = os.dup(self._here.fd)
        try:
            self._here.up()  # first: its mode may close it to us
            with reading(entry.path):
                source = os.open(entry.name, _DIRECTORY, dir_fd=entry.parent_fd)
            try:
                self._finish(made, entry, source)
            finally:
                os.close(source)
        finally:
            os.close(made)

    def _hard_link(self, entry: Entry) -> bool:
        if entry.info.st_nlink < 2:
            return False
        first = self._links.setdefault((entry.info.st_dev, entry.info.st_ino), entry.path)
        if first == entry.path:
            return False
        head, _, name = first.rpartition(b"/")
        directory = fs.open_beneath(self._root, head or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            fs.link(name, entry.name, source_dir_fd=directory, dir_fd=self._here.fd)
        finally:
            os.close(directory)
        return True

    def _file(self, entry: Entry) -> None:
        with reading(entry.path):
            source = entry.open()
        try:
            fs.mutation("create", entry.path)
            target = os.open(entry.name, _CREATE, 0o600, dir_fd=self._here.fd)
            try:
                try:
                    copied = fs.copy_file(source, target, entry.info.st_size)
                except fs.SourceError:
                    with reading(entry.path):
                        raise
                if copied != entry.info.st_size:
                    raise ImgError(f"file changed while it was read: `{fs.show(entry.path)}`")
                self._finish(target, entry, source)
            finally:
                os.close(target)
        finally:
            os.close(source)
        self.done.size += entry.info.st_size

    def _finish(self, fd: int, entry: Entry, source: int) -> None:
        """Set owner, mode, attributes and times of the open file or directory *fd*, the copy of *source*."""
        fs.mutation("metadata", entry.path)
        with reading(entry.path):
            marks = xattrs.read_all(source)
        mode, found = marks.mode_of(entry.info.st_mode), marks.attributes
        if self._policy.owners:
            self._own(entry, marks, lambda uid, gid: os.fchown(fd, uid, gid))
        else:
            mode &= ~_SPECIAL_BITS  # they would mean the caller now
            found = {name: value for name, value in (found or {}).items() if name.startswith(b"user.")}
        os.fchmod(fd, mode)  # after chown(2), which clears the setuid bit
        if found:
            xattrs.write(fd, found)
        os.utime(fd, ns=self._times(entry))

    def _finish_by_name(self, entry: Entry) -> None:
        """Like `_finish`, for what cannot be opened."""
        if self._policy.owners:
            self._own(
                entry,
                xattrs.Marks(),
                lambda uid, gid: os.chown(entry.name, uid, gid, dir_fd=self._here.fd, follow_symlinks=False),
            )
        os.utime(entry.name, ns=self._times(entry), dir_fd=self._here.fd, follow_symlinks=False)

    def _own(self, entry: Entry, marks: xattrs.Marks, change: Callable[[int, int], None]) -> None:
        uid, gid = self._tree.owner(entry.path) or marks.owner_of(entry.info.st_uid, entry.info.st_gid)
        try:
            change(uid, gid)
        except OSError as err:
            if err.errno not in (errno.EINVAL, errno.EPERM):
                raise
            raise HostError(
                f"cannot give `{fs.show(entry.path)}` to {uid}:{gid}: the id is not available here",
                hint="more ids per user are configured in /etc/subuid and /etc/subgid",
            ) from err

    def _times(self, entry: Entry) -> tuple[int, int]:
        epoch = self._policy.epoch
        nanoseconds = entry.info.st_mtime_ns if epoch is None else epoch * 10**9
        return nanoseconds, nanoseconds

    def _skip(self, path: bytes) -> None:
        self.done.skipped_count += 1
        if len(self.done.skipped) < _REMEMBERED:
            self.done.skipped.append(path)


# ----------------------------------------------------------------------------------------------------------- merging


@dataclass(frozen=True, slots=True)
class _Move:
    """*name* in the directory *path* moves from the new tree to the old one; *over* is what stands there, if anything."""

    path: bytes
    name: bytes
    over: os.stat_result | None


def merge(new_fd: int, old_fd: int, *, delete: bool = False, spare: bytes = b"") -> None:
    """Move the content of *new_fd* into *old_fd* on the same file system.

    Directories that both have are joined; anything else is replaced by one rename, so that each entry is old or new at
    any moment. With *delete* what the new tree lacks is removed, except *spare* at the top. Raises UsageError, before
    anything changes, when a directory with content would have to give way to a file, or is on another file system, and
    PermissionError when one may not be written.
    """
    moves, joined, surplus = _plan(new_fd, old_fd, delete, spare)
    for move in moves:
        with _Pair(new_fd, old_fd, move.path) as (source, target):
            _make_room(move, source, target)
            _rename(move.name, source, target)
    for path, name in surplus:
        with _Pair(old_fd, old_fd, path) as (_, target):
            fs.remove_entry(target, name)
    for path, info in reversed(joined):
        with _Pair(old_fd, old_fd, path) as (_, target):
            _set_metadata(target, info, path)


def _plan(
    new_fd: int, old_fd: int, delete: bool, spare: bytes
) -> tuple[list[_Move], list[tuple[bytes, os.stat_result]], list[tuple[bytes, bytes]]]:
    """Return the moves, the joined directories with what the new tree says of them, and the old entries to remove."""
    moves: list[_Move] = []
    joined: list[tuple[bytes, os.stat_result]] = []
    surplus: list[tuple[bytes, bytes]] = []
    pending = [b""]
    while pending:
        path = pending.pop()
        with _Pair(new_fd, old_fd, path) as (source, target):
            if os.fstat(source).st_dev != os.fstat(target).st_dev:
                raise UsageError(f"`{fs.show(path)}` in the destination is on another file system")
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=target, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            names = sorted(map(os.fsencode, os.listdir(source)))
            for name in names:
                below = name if not path else path + b"/" + name
                move = _Move(path, name, _stat(target, name))
                if move.over is None or not stat.S_ISDIR(move.over.st_mode):
                    moves.append(move)
                elif stat.S_ISDIR((info := os.stat(name, dir_fd=source, follow_symlinks=False)).st_mode):
                    _open_to_us(source, name, info)
                    joined.append((below, info))
                    pending.append(below)
                else:
                    _require_empty(target, name, below)
                    moves.append(move)
            if delete:
                kept = {*names, spare} if not path else set(names)
                surplus += [(path, name) for name in map(os.fsencode, os.listdir(target)) if name not in kept]
    return moves, joined, surplus


class _Pair:
    """The same directory in two trees, open for the length of a ``with`` block."""

    def __init__(self, first: int, second: int, path: bytes) -> None:
        self._roots = (first, second)
        self._path = path or b"."
        self._fds: list[int] = []

    def __enter__(self) -> tuple[int, int]:
        for root in self._roots:
            self._fds.append(fs.open_beneath(root, self._path, os.O_RDONLY | os.O_DIRECTORY))
        return self._fds[0], self._fds[1]

    def __exit__(self, *_: object) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _stat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _require_empty(directory: int, name: bytes, path: bytes) -> None:
    fd = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        if os.listdir(fd):
            raise UsageError(
                f"the directory `{fs.show(path)}` in the destination would be replaced by a file",
                hint="remove it, or name another destination",
            )
    finally:
        os.close(fd)


def _make_room(move: _Move, source: int, target: int) -> None:
    """Remove what rename(2) does not replace: an empty directory by a file, or a file by a directory."""
    if move.over is None:
        return
    if stat.S_ISDIR(move.over.st_mode):
        fs.rmdir(move.name, dir_fd=target)
    elif stat.S_ISDIR(os.stat(move.name, dir_fd=source, follow_symlinks=False).st_mode):
        fs.unlink(move.name, dir_fd=target)


def _rename(name: bytes, source: int, target: int) -> None:
    """Move *name*. A directory that its owner may not write cannot get another parent, unless we are root in some sense."""
    try:
        fs.rename(name, name, source_dir_fd=source, dir_fd=target)
        return
    except PermissionError:
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            raise
    _open_to_us(source, name, info)
    fs.rename(name, name, source_dir_fd=source, dir_fd=target)
    _change_mode(target, name, stat.S_IMODE(info.st_mode))


def _open_to_us(directory: int, name: bytes, info: os.stat_result) -> None:
    """Give us the permissions of an owner in directory *name* of the new tree, unless it has them."""
    if info.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        _change_mode(directory, name, stat.S_IMODE(info.st_mode) | stat.S_IRWXU)


def _change_mode(directory: int, name: bytes, mode: int) -> None:
    """Change the mode of directory *name*, which perhaps we may not read."""
    fs.mutation("chmod", name)
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _set_metadata(target: int, info: os.stat_result, path: bytes) -> None:
    """Give a joined directory the mode and times of the new one."""
    fs.mutation("metadata", path)
    os.fchmod(target, stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns))
