"""The content part of a copy's cache key (docs/reference/dockerfile-cases.md, CA).

Names, modes, bytes, link texts and device numbers count; times do not, and owners and attributes only where they are copied.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from img_core.files import fs, xattrs
from img_core.files.copy._select import HardLinks
from img_core.files.copy._tree import SourceTree, open_directory, read_error
from img_core.files.ownership import OWNER_ATTRIBUTE, read_owner
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.files.copy._select import Folder, Match, Selection
    from img_core.files.copy._tree import FileInfo

__all__ = ["FileHashes", "digest", "open_file"]

_BLOCK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# A file that changed this recently may change again without a visible change of its times: clocks of file systems are coarse
# (2 s on FAT, a tick on ext4, another machine's on NFS). Such a digest is not remembered.
_SETTLED_NS = 2_000_000_000


class FileHashes(Protocol):
    """Remembers digests of files by device, inode, size, mtime and ctime."""

    def get(self, info: Any) -> str | None:  # Any: a stat result, or something with the same five attributes
        """Return what `put` got for a file with the same five values."""

    def put(self, info: Any, value: str) -> None:  # Any: as above
        """Remember *value*, an opaque text of some hundred characters at most."""


class NoHashes:
    """Remembers nothing."""

    def get(self, info: Any) -> str | None:
        """Know nothing."""
        return None

    def put(self, info: Any, value: str) -> None:
        """Forget."""


def digest(
    selection: Selection,
    hashes: FileHashes | None = None,
    *,
    whole: bool = False,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Return ``sha256:…`` of what *selection* would bring. Reads every file that *hashes* does not know.

    With *whole* mode, owner and attributes of a named directory itself count, too, which are not copied but seen where it is mounted.
    *check* is called often and may raise to stop the work. Raises `ImgError` naming a file that cannot be read or changes meanwhile.
    """
    hashes = NoHashes() if hashes is None else hashes
    return _Digester(selection.tree, hashes, check, whole=whole).run(selection.matches)


class _Digester:
    def __init__(self, tree: SourceTree, hashes: FileHashes, check: Callable[[], None], *, whole: bool) -> None:
        self.tree = tree
        self.whole = whole
        self.check = check
        self.hashes = hashes
        self.sum = hashlib.sha256(b"img copy 2\n")
        self.links = HardLinks()
        self.before = time.time_ns() - _SETTLED_NS

    def run(self, matches: tuple[Match, ...]) -> str:
        for match in matches:
            self.links.start(match)
            for name, info in match.parents:
                self._add(b"parent", name, info, b"", b"%d:%d" % (info.st_uid, info.st_gid))
            if match.folders:
                self._tree(match)
            else:
                head, _, last = match.path.rpartition(b"/")
                with opened(self.tree, head) as fd:
                    self._entry(fd, last, match.path, match.name, match.info)
        return "sha256:" + self.sum.hexdigest()

    def _tree(self, match: Match) -> None:
        for folder in match.folders:
            self.check()
            with opened(self.tree, folder.path) as fd:
                # The root of a context has no look of its own: where it is mounted it is 755, whatever the user's directory is.
                if folder.name or (self.whole and (folder.path or self.tree.keep_owner)):
                    self._folder(folder, fd)
                else:
                    self.sum.update(b"directory\0\0\0\n")  # its own mode and owner are not copied
                prefix = folder.name + b"/" if folder.name else b""
                path = folder.path + b"/" if folder.path else b""
                for name, info in folder.files:
                    self._entry(fd, name, path + name, prefix + name, info)

    def _folder(self, folder: Folder, fd: int) -> None:
        marks = _marks(fd) if self.tree.keep_owner else ""
        self._add_marked(b"directory", folder.name, folder.info, "", marks)

    def _entry(self, dir_fd: int, name: bytes, path: bytes, shown: bytes, info: FileInfo) -> None:
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFREG:
            first = self.links.first(info, shown) if info.st_nlink > 1 else None
            if first is not None and first != shown:
                self._add(b"hard link", shown, info, first, b"")
                return
            value = self.hashes.get(info)
            if value is None:
                value = self._read(dir_fd, name, path, info)
            content, _, marks = value.partition("+")
            self._add_marked(b"file", shown, info, content, marks)
            return
        ids = self.tree.owners.get(path, (info.st_uid, info.st_gid))
        if kind == stat.S_IFLNK:
            self._add(b"link", shown, info, read_link(self.tree, dir_fd, name, path), b"%d:%d" % ids)
        elif kind != stat.S_IFSOCK:  # a socket is not copied
            self._add(b"node", shown, info, b"%d" % info.st_rdev, b"%d:%d" % ids)

    def _add_marked(self, kind: bytes, name: bytes, info: FileInfo, content: str, marks: str) -> None:
        """Add what can carry attributes. A recorded owner counts like a real one, so the mapping of ids does not matter."""
        attributes, _, recorded = marks.partition("@")
        owner = recorded.encode() or b"%d:%d" % (info.st_uid, info.st_gid)
        if not self.tree.keep_owner:
            attributes = ""
        self._add(kind, name, info, f"{content}+{attributes}".encode(), owner)

    def _add(self, kind: bytes, name: bytes, info: FileInfo, value: bytes, owner: bytes) -> None:
        if not self.tree.keep_owner:
            owner = b""
        self.sum.update(b"%b\0%b\0%o\0%b\0%b\0\n" % (kind, name, info.st_mode, owner, value))

    def _read(self, dir_fd: int, name: bytes, path: bytes, info: FileInfo) -> str:
        """Return the file's digest, and what else belongs to it behind a ``+``."""
        fd = open_file(self.tree, dir_fd, name, path, info)
        try:
            value = _hash(fd, info.st_size, self.check)
            marks = _marks(fd)
            now = os.fstat(fd)
        except OSError as err:
            raise read_error(self.tree, path, err) from err
        finally:
            os.close(fd)
        if not same_version(now, info):
            raise changed_error(self.tree, path)
        if marks:
            value += "+" + marks
        if max(info.st_mtime_ns, info.st_ctime_ns) < self.before:
            self.hashes.put(info, value)
        return value


def _hash(fd: int, size: int, check: Callable[[], None]) -> str:
    data = os.read(fd, min(size, _BLOCK)) if size else b""
    sum_ = hashlib.sha256(data)
    if len(data) == size:  # nearly every file; one that grew meanwhile is noticed by its new times
        return sum_.hexdigest()
    while block := os.read(fd, _BLOCK):
        check()
        sum_.update(block)
    return sum_.hexdigest()


def _marks(fd: int) -> str:
    """Return a text for the portable attributes and the recorded owner of *fd*; empty for none."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return ""
    if not names:
        return ""
    attributes, _ = xattrs.read(fd)
    text = ""
    if attributes:
        joined = b"".join(b"%b\0%d\0%b" % (name, len(value), value) for name, value in sorted(attributes.items()))
        text = hashlib.sha256(joined).hexdigest()
    owner = read_owner(fd) if OWNER_ATTRIBUTE in names else None
    return text + f"@{owner[0]}:{owner[1]}" if owner else text


# --- opening without being fooled -------------------------------------------------------------------------------------


@contextmanager
def opened(tree: SourceTree, path: bytes) -> Iterator[int]:
    """Hold directory *path* of *tree* open."""
    fd = open_directory(tree, path)
    try:
        yield fd
    finally:
        os.close(fd)


def open_file(tree: SourceTree, dir_fd: int, name: bytes, path: bytes, info: FileInfo) -> int:
    """Open the regular file *name* that was seen with *info*; raises if it is another one now or cannot be read."""
    try:
        fd = os.open(name, _OPEN, dir_fd=dir_fd)
    except FileNotFoundError as err:
        raise changed_error(tree, path) from err
    except OSError as err:
        raise read_error(tree, path, err) from err
    if not same_version(os.fstat(fd), info):
        os.close(fd)
        raise changed_error(tree, path)
    return fd


def read_link(tree: SourceTree, dir_fd: int, name: bytes, path: bytes) -> bytes:
    """Return the target of the symlink *name*; raises if there is none any more."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.EINVAL):  # gone, or something else
            raise changed_error(tree, path) from err
        raise read_error(tree, path, err) from err


def same_version(now: os.stat_result, before: FileInfo) -> bool:
    """Tell whether both are the same state of the same file."""
    return (
        now.st_ino == before.st_ino
        and now.st_ctime_ns == before.st_ctime_ns
        and now.st_mtime_ns == before.st_mtime_ns
        and now.st_size == before.st_size
        and now.st_mode == before.st_mode
    )


def changed_error(tree: SourceTree, path: bytes) -> ImgError:
    """Say that somebody writes to the tree while we read it."""
    return ImgError(
        f"`/{fs.show(path)}` in {tree.name} changed while it was read",
        hint="build again when nothing writes to it, or exclude it in the ignore file",
    )
