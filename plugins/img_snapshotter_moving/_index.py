"""What a tree looked like: one token per entry, by which a later look finds everything that was touched since.

A token holds all that lstat(2) tells of an entry but its last access: among it the inode number and the time of the last change of
status, which nobody can set. So whatever happens to an entry gives it another token, if the clock of the file system went on since
the index was taken (`settle`). It also holds what a comparison may need once the entry is another one: the text of a link, attributes,
and for a few files a digest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from binascii import unhexlify as unhex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from img_core.files import fs
from img_core.spec.errors import HostError, ImgError, StateError
from img_lib_layers.changes import look as noted_look
from img_lib_layers.times import CLOCK_SECONDS, ticked, time_now

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Facts", "Look", "TreeIndex", "digest_of_file", "look", "read_index", "settle", "with_digest", "write_index"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BOOKS: Final = ("user.overlay.", "trusted.overlay.")  # attributes that say nothing about the file
_HEADER: Final = b"img index 1"
#: Up to this size the content of a file below /etc is noted: programs write many of them anew as they were, and executors that cannot mount
#: put files of theirs into the places of ``hosts`` and ``resolv.conf`` for a while.
_SETTINGS: Final = 64 << 10


class Facts(NamedTuple):
    """A token, read. *times* in nanoseconds; *extra* is text of a link, else attributes; *digest* is empty where it is not known."""

    mode: int
    inode: int
    changed: int
    size: int
    uid: int
    gid: int
    links: int
    device: int
    modified: int
    extra: bytes
    digest: bytes

    def alike(self, other: Facts) -> bool:
        """Tell whether both look the same to whoever does not read content: a directory's times and size say nothing about itself."""
        mine = (self._look(), self.uid, self.gid, self.device)
        if mine != (other._look(), other.uid, other.gid, other.device):
            return False
        return stat.S_ISDIR(self.mode) or (self.size, self.modified) == (other.size, other.modified)

    def _look(self) -> tuple[int, int, object]:
        """Return kind, permissions and what else *extra* says; a note of the mode counts instead of the mode."""
        kind = stat.S_IFMT(self.mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR) or not self.extra:
            return kind, stat.S_IMODE(self.mode), self.extra
        pairs = (pair.partition(b"=") for pair in self.extra.split(b","))
        names = {os.fsdecode(unhex(name)): unhex(value) for name, _, value in pairs}
        mode, others = noted_look(self.mode, names)
        return kind, mode, others or b""


@dataclass(slots=True)
class TreeIndex:
    """Tokens of a tree: of its *root*, and for each directory by path (the root: empty) those of its entries by name, sorted."""

    root: bytes = b""
    directories: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)

    def facts(self) -> Iterator[tuple[bytes, Facts]]:
        """Give all entries, and last the root, whose path is empty."""
        for path, entries in self.directories.items():
            for name, token in entries.items():
                yield _join(path, name), parse(token)
        if self.root:
            yield b"", parse(self.root)


@dataclass(slots=True)
class Look:
    """A tree as it is: its *index*, the lstat results of directories and of all that is not as before, and the latest change."""

    index: TreeIndex = field(default_factory=TreeIndex)
    stats: dict[bytes, os.stat_result] = field(default_factory=dict)
    latest: int = 0


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def parse(token: bytes) -> Facts:
    """Return what *token* says."""
    *numbers, extra = token.split(b" ", 9)
    mode, inode, changed, size, uid, gid, links, device, modified = (int(number, 16) for number in numbers)
    if stat.S_ISLNK(mode):
        return Facts(mode, inode, changed, size, uid, gid, links, device, modified, extra, b"")
    attributes, _, digest = extra.partition(b"#")
    return Facts(mode, inode, changed, size, uid, gid, links, device, modified, attributes, digest)


def with_digest(token: bytes, digest: bytes) -> bytes:
    """Return *token* of a file whose content has *digest*."""
    return token.partition(b"#")[0] + b"#" + digest


def _stamp(info: os.stat_result) -> bytes:
    return b"%x %x %x %x %x %x %x %x %x " % (
        info.st_mode, info.st_ino, info.st_ctime_ns, info.st_size, info.st_uid, info.st_gid, info.st_nlink, info.st_rdev,
        info.st_mtime_ns,
    )  # fmt: skip


def look(root_fd: int, before: TreeIndex) -> Look:
    """Look at all entries below *root_fd*; tokens that are as *before* are taken from there. Raises ImgError."""
    found = Look()
    root = os.fstat(root_fd)
    found.index.root = _stamp(root)
    found.latest = root.st_ctime_ns
    path = b""
    try:
        todo = [b""]
        while todo:
            path = todo.pop()
            _look_into(root_fd, path, before.directories.get(path, {}), found, todo)
    except OSError as err:  # for instance a path that a step made longer than one system call takes
        reason = os.strerror(err.errno or 0).lower()
        raise ImgError(f"cannot read a snapshot: {reason}: `{fs.show(fs.place_of(err, path))}`") from err
    return found


def _look_into(root_fd: int, path: bytes, before: dict[bytes, bytes], found: Look, todo: list[bytes]) -> None:
    fd = os.open(path or b".", _DIRECTORY, dir_fd=root_fd)
    try:
        with os.scandir(fd) as entries:
            listed = sorted((os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries)
        tokens: dict[bytes, bytes] = {}
        latest = found.latest
        for name, info in listed:
            directory = stat.S_ISDIR(info.st_mode)
            stamp = _stamp(info)
            token = before.get(name, b"")
            if not token.startswith(stamp):
                token = stamp + _extra(fd, path, name, info)
                found.stats[_join(path, name)] = info
            elif directory:
                found.stats[_join(path, name)] = info
            tokens[name] = token
            if info.st_ctime_ns > latest:
                latest = info.st_ctime_ns
            if directory:
                todo.append(_join(path, name))
        found.latest = latest
        found.index.directories[path] = tokens
    finally:
        os.close(fd)


def _extra(fd: int, path: bytes, name: bytes, info: os.stat_result) -> bytes:
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(name, dir_fd=fd)
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        return b""
    place = b"/proc/self/fd/%d/%b" % (fd, name)
    attributes = _attributes(place)
    if stat.S_ISREG(info.st_mode) and info.st_size <= _SETTINGS and (path == b"etc" or path.startswith(b"etc/")):
        return attributes + b"#" + digest_of_file(fd, name)
    return attributes


def _attributes(place: bytes) -> bytes:
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError as err:
        if err.errno == errno.ENOTSUP:
            return b""
        raise
    if not names:
        return b""
    pairs = [
        os.fsencode(name).hex() + "=" + os.getxattr(place, name, follow_symlinks=False).hex()
        for name in sorted(names)
        if not name.startswith(_BOOKS)
    ]
    return ",".join(pairs).encode()


def digest_of_file(dir_fd: int, name: bytes) -> bytes:
    """Return a digest of the content of a regular file, in hexadecimal digits."""
    fd = os.open(name, _READ, dir_fd=dir_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest().encode()


# ---------------------------------------------------------------------------------------------------------------- time


def settle(root_fd: int, directory: str, found: Look) -> Look:
    """Wait until every later change of an entry gives it a time that no entry of *found* has; return a look that is then right.

    Times of changes are those of the last tick of the kernel's clock (4 ms, often), and whole seconds on some file systems: what happens
    in the tick in which an index was taken would leave no trace. If the clock was set back since the tree was made, entries get
    times of now first. *directory* is ours, on the same file system.
    """
    now = time_now(directory)
    if found.latest > now + int(CLOCK_SECONDS * 1e9):
        for path, facts in found.index.facts():
            if facts.changed > now:
                _touch(root_fd, path, facts)
        found = look(root_fd, found.index)
    if now <= found.latest and not ticked(directory, found.latest):
        raise HostError(
            "the clock of the file system stands still: changes cannot be told", hint="use `--backend native`"
        )
    return found


def _touch(root_fd: int, path: bytes, facts: Facts) -> None:
    """Give an entry a new time of change, and leave it as it is."""
    if stat.S_ISLNK(facts.mode):
        os.chown(path, facts.uid, facts.gid, dir_fd=root_fd, follow_symlinks=False)
    else:  # not chown, which takes set-id bits away
        os.chmod(path or b".", stat.S_IMODE(facts.mode), dir_fd=root_fd)


# ---------------------------------------------------------------------------------------------------------------- file


def write_index(path: str, index: TreeIndex) -> None:
    """Write *index* into the file *path*, which appears whole."""
    parts = [_HEADER, index.root]
    for directory, entries in index.directories.items():
        parts.append(b"/" + directory)  # no name holds a slash
        for name, token in entries.items():
            parts.append(name)
            parts.append(token)
    fs.replace_file(path, b"\0".join(parts))


def read_index(path: str) -> TreeIndex:
    """Return what `write_index` wrote."""
    try:
        with open(path, "rb") as file:
            parts = iter(file.read().split(b"\0"))
        if next(parts) != _HEADER:
            raise ValueError
        index = TreeIndex(next(parts))
        entries: dict[bytes, bytes] = {}
        for part in parts:
            if part.startswith(b"/"):
                entries = index.directories[part[1:]] = {}
            else:
                entries[part] = next(parts)
    except (OSError, ValueError, StopIteration) as err:
        raise StateError(
            "the index of a snapshot is damaged", hint="`img prune` removes it; it is made again by the next build"
        ) from err
    return index
