"""What a step changed: the walk that snapshotters share, and what makes two entries equal."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Generic, TypeVar

from img_core.files import fs
from img_core.files.ownership import parse_records
from img_core.files.xattrs import MODE, parse_mode
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "TreeChanges",
    "copy_look",
    "disk_usage",
    "look",
    "read_records",
    "same_attributes",
    "same_entry",
    "scan",
    "visible_xattrs",
]

State = TypeVar("State")

#: attributes by which overlayfs keeps its books; they say nothing about the file
_OVERLAY_XATTRS = ("user.overlay.", "trusted.overlay.")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20


def scan(root_fd: int, path: bytes) -> list[tuple[bytes, os.stat_result]]:
    """Return ``(name, lstat result)`` of the entries of directory *path* (empty: *root_fd* itself), sorted by name."""
    fd = os.open(path or b".", _DIRECTORY, dir_fd=root_fd)
    try:
        with os.scandir(fd) as entries:
            found = [(os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
    finally:
        os.close(fd)
    found.sort()
    return found


class TreeChanges(Generic[State]):
    """The walk of `img_core.spec.snapshotter.Changes`; a snapshotter adds how it knows what changed.

    *State* is what a directory hands down to its children, for example whether the parents have that directory too. Directories that
    are only there because something below them changed come out together with the first such change.
    """

    def __init__(self, root_fd: int, records: str) -> None:
        self.root_fd = root_fd
        self._records = records
        self._owners: dict[bytes, tuple[int, int]] | None = None

    def _root_state(self) -> State:
        raise NotImplementedError

    def _entries(self, path: bytes, state: State) -> Iterable[tuple[bytes, os.stat_result | None]]:
        """Return the entries of directory *path* sorted by name, deleted ones with None."""
        raise NotImplementedError

    def _judge(self, path: bytes, info: os.stat_result, state: State) -> tuple[bool, State]:
        """Tell whether *path*, in a directory of *state*, changed; and the state that it hands down, if it is a directory."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result | None]]:
        try:
            yield from self._walk()
        except OSError as err:  # for instance a path that a step made longer than one system call takes
            name = fs.show(fs.place_of(err, "it"))
            raise ImgError(f"cannot read a snapshot: {os.strerror(err.errno or 0).lower()}: `{name}`") from err

    def _walk(self) -> Iterator[tuple[bytes, os.stat_result | None]]:
        waiting: list[tuple[bytes, os.stat_result]] = []  # unchanged directories between the last change and here
        state = self._root_state()
        stack = [(b"", state, iter(self._entries(b"", state)))]
        while stack:
            directory, state, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                if waiting and waiting[-1][0] == directory:
                    waiting.pop()
                continue
            path = directory + b"/" + entry[0] if directory else entry[0]
            info = entry[1]
            changed, below = (True, state) if info is None else self._judge(path, info, state)
            if changed:
                yield from waiting
                waiting.clear()
                yield path, info
            if info is not None and stat.S_ISDIR(info.st_mode):
                if not changed:
                    waiting.append((path, info))
                stack.append((path, below, iter(self._entries(path, below))))

    def owner(self, path: bytes) -> tuple[int, int] | None:
        """Return the recorded owner of *path*, see `Changes.owner`."""
        if self._owners is None:
            self._owners = read_records(self._records)
        return self._owners.get(path)

    def close(self) -> None:
        """Release *root_fd*; harmless when called twice."""
        fd, self.root_fd = self.root_fd, -1
        if fd >= 0:
            os.close(fd)


def read_records(path: str) -> dict[bytes, tuple[int, int]]:
    """Return the owners recorded in the file *path*; none when it does not exist."""
    try:
        with open(path, "rb") as file:
            return parse_records(file.read())
    except FileNotFoundError:
        return {}


# --- equality ---------------------------------------------------------------------------------------------------------


def same_attributes(first: os.stat_result, second: os.stat_result) -> bool:
    """Compare type, mode and owner."""
    return first.st_mode == second.st_mode and first.st_uid == second.st_uid and first.st_gid == second.st_gid


def same_entry(path: bytes, first_fd: int, first: os.stat_result, second_fd: int, second: os.stat_result) -> bool:
    """Tell whether *path* is the same in the trees *first_fd* and *second_fd*, whose lstat results are given.

    Directories: mode, owner and attributes; their times say only that something inside changed. Everything else: also time, device
    number, link text and bytes.
    """
    kind = stat.S_IFMT(first.st_mode)
    if kind != stat.S_IFMT(second.st_mode) or (first.st_uid, first.st_gid) != (second.st_uid, second.st_gid):
        return False
    if kind == stat.S_IFDIR:
        return look(first.st_mode, visible_xattrs(first_fd, path)) == look(
            second.st_mode, visible_xattrs(second_fd, path)
        )
    if kind != stat.S_IFREG and first.st_mode != second.st_mode:
        return False
    if first.st_mtime_ns != second.st_mtime_ns or first.st_rdev != second.st_rdev:
        return False
    if kind == stat.S_IFLNK:
        return os.readlink(path, dir_fd=first_fd) == os.readlink(path, dir_fd=second_fd)
    if kind == stat.S_IFREG:
        return first.st_size == second.st_size and _same_file(path, first_fd, first, second_fd, second)
    return True


def look(mode: int, attributes: Mapping[str, bytes]) -> tuple[int, dict[str, bytes]]:
    """Return the permissions that a file is to have and its other *attributes*: a note of the mode says the former, whatever *mode* is."""
    others = dict(attributes)
    noted = parse_mode(others.pop(os.fsdecode(MODE), b""))
    return stat.S_IMODE(mode) if noted is None else noted, others


def visible_xattrs(root_fd: int, path: bytes) -> dict[str, bytes]:
    """Return the extended attributes of the file or directory *path* that belong to it and not to overlayfs."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root_fd)
    try:
        return _xattrs(fd)
    finally:
        os.close(fd)


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(fd)
    except OSError as err:
        if err.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if not name.startswith(_OVERLAY_XATTRS)}


def _same_file(
    path: bytes, first_fd: int, first_info: os.stat_result, second_fd: int, second_info: os.stat_result
) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    first = os.open(path, flags, dir_fd=first_fd)
    try:
        second = os.open(path, flags, dir_fd=second_fd)
        try:
            looks = look(first_info.st_mode, _xattrs(first)), look(second_info.st_mode, _xattrs(second))
            return looks[0] == looks[1] and _same_bytes(first, second)
        finally:
            os.close(second)
    finally:
        os.close(first)


def _same_bytes(first: int, second: int) -> bool:
    while True:
        block = os.read(first, _BLOCK)
        if block != os.read(second, _BLOCK):
            return False
        if not block:
            return True


def copy_look(source_fd: int, target_fd: int) -> None:
    """Give the open directory *target_fd* the owner, attributes, mode and time of *source_fd*."""
    info = os.fstat(source_fd)
    now = os.fstat(target_fd)
    if (info.st_uid, info.st_gid) != (now.st_uid, now.st_gid):
        fs.mutation("chown")
        os.fchown(target_fd, info.st_uid, info.st_gid)
    for name, value in _xattrs(source_fd).items():
        fs.mutation("setxattr")
        os.setxattr(target_fd, name, value)
    fs.mutation("chmod")
    os.fchmod(target_fd, stat.S_IMODE(info.st_mode))
    os.utime(target_fd, ns=(info.st_mtime_ns, info.st_mtime_ns))


# --- size -------------------------------------------------------------------------------------------------------------


def disk_usage(directory: str) -> int:
    """Return the bytes that the tree *directory* occupies on disk; hard links count once."""
    root = os.open(directory, _DIRECTORY)
    seen: set[int] = set()
    total = os.fstat(root).st_blocks
    todo = [b""]
    try:
        while todo:
            path = todo.pop()
            for name, info in scan(root, path):
                if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                total += info.st_blocks
                if stat.S_ISDIR(info.st_mode):
                    todo.append(path + b"/" + name if path else name)
    except OSError as err:
        raise ImgError(f"cannot measure `{fs.show(directory)}`: {err.strerror}") from err
    finally:
        os.close(root)
    return total * 512
