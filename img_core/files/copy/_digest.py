"""The content part of a copy's cache key (docs/reference/dockerfile-cases.md, CA).

Names, modes, bytes, link texts and device numbers count; times do not, and owners and attributes only where they are copied.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.copy._reading import Outline, Reading, marks_of
from img_core.files.copy._select import HardLinks, Match
from img_core.files.copy._tree import SourceTree, open_directory, read_error, reading
from img_core.files.xattrs import Marks, parse_owner
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.files.copy._reading import FileHashes
    from img_core.files.copy._select import Folder, Selection
    from img_core.files.copy._tree import FileInfo

__all__ = ["digest", "file_digests", "known_digest", "open_file", "outline"]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _UnreadError(Exception):
    """A file would have to be read."""


def digest(
    selection: Selection,
    hashes: FileHashes | None = None,
    *,
    whole: bool = False,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Return ``sha256:…`` of what *selection* would bring. Reads every file that its `Reading`, or else *hashes*, does not know.

    With *whole* mode, owner and attributes of a named directory itself count, too, which are not copied but seen where it is mounted.
    *check* is called often and may raise to stop the work. Raises `ImgError` naming a file that cannot be read or changes meanwhile.
    """
    reading = selection.reading or Reading(hashes, marked=selection.tree.keep_owner)
    return _Digester(selection.tree, reading, check, whole=whole).run(selection.matches)


def known_digest(selection: Selection) -> str | None:
    """Return what `digest` would, if it had to read no file for that, else None."""

    try:
        reading = selection.reading or Reading()
        return _Digester(selection.tree, reading, lambda: None, reads=False).run(selection.matches)
    except _UnreadError:
        return None


def outline(selection: Selection) -> str:
    """Return a digest of names, modes and sizes of what *selection* would bring, and of three blocks of each large file.

    Empty where its `Reading` keeps all that `digest` would read of it for a copy. *selection* needs one.
    """
    assert selection.reading is not None
    if selection.reading.can_hold(info for match in selection.matches for _, info in _files(match)):
        return ""
    return _Digester(selection.tree, Outline(), lambda: None).run(selection.matches)


def _files(match: Match) -> Iterator[tuple[bytes, FileInfo]]:
    """Give what *match* brings but directories: ``(path in the tree, lstat result)``."""
    if not match.folders:
        yield match.path, match.info
    for folder in match.folders:
        below = folder.path + b"/" if folder.path else b""
        for name, info in folder.files:
            yield below + name, info


def file_digests(selection: Selection, *, most: int, largest: int) -> list[tuple[bytes, str]] | None:
    """Return ``(path in the tree, digest)`` of each file that *selection* brings, or None if there are more than *most*.

    Files of more than *largest* bytes are left out where their `Reading` does not know them.
    """
    found: list[tuple[bytes, str]] = []
    for match in selection.matches:
        files = list(_files(match))
        if len(found) + len(files) > most:
            return None
        for path, info in files:
            if info.st_size <= largest or (selection.reading and selection.reading.get(info)):
                found.append((path, digest(replace(selection, matches=(Match(path, b"", info),)))))
    return found


class _Digester:
    def __init__(
        self, tree: SourceTree, reading: Reading, check: Callable[[], None], *, whole: bool = False, reads: bool = True
    ) -> None:
        self.tree = tree
        self.reading = reading
        self.whole = whole
        self.reads = reads
        self.check = check
        self.sum = hashlib.sha256(b"img copy 2\n")
        self.links = HardLinks()
        self.modes: dict[bytes, int] = {}  # of the first names of files with several

    def run(self, matches: tuple[Match, ...]) -> str:
        for match in matches:
            self.links.start(match)
            for (name, info), path in zip(match.parents, match.origins, strict=True):
                with opened(self.tree, path) as fd:
                    _, mode, owner = self._parts(info, self._marks(fd, path))
                self._add(b"parent", name, mode, b"", owner)
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
        self._add_marked(b"directory", folder.name, folder.info, "", self._marks(fd, folder.path))

    def _marks(self, fd: int, path: bytes) -> str:
        if not self.tree.keep_owner:
            return ""
        with reading(self.tree, path):
            return marks_of(fd)

    def _entry(self, dir_fd: int, name: bytes, path: bytes, shown: bytes, info: FileInfo) -> None:
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFREG:
            first = self.links.first(info, shown) if info.st_nlink > 1 else None
            if first is not None and first != shown:
                self._add(b"hard link", shown, self.modes.get(first, info.st_mode), first, b"")
                return
            value = self.reading.get(info) or self._read(dir_fd, name, path, info)
            content, _, marks = value.partition("+")
            mode = self._add_marked(b"file", shown, info, content, marks)
            if first is not None:
                self.modes[first] = mode
            return
        ids = Marks(owner=self.tree.owners.get(path)).owner_of(info.st_uid, info.st_gid)
        if kind == stat.S_IFLNK:
            text = read_link(self.tree, dir_fd, name, path)
            with reading(self.tree, path):
                now = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if not same_version(now, info):
                raise changed_error(self.tree, path)  # and perhaps copied before it did
            self._add(b"link", shown, info.st_mode, text, b"%d:%d" % ids)
        elif kind != stat.S_IFSOCK:  # a socket is not copied
            self._add(b"node", shown, info.st_mode, b"%d" % info.st_rdev, b"%d:%d" % ids)

    def _add_marked(self, kind: bytes, name: bytes, info: FileInfo, content: str, marks: str) -> int:
        """Add what can carry attributes, and return its mode."""
        attributes, mode, owner = self._parts(info, marks)
        self._add(kind, name, mode, f"{content}+{attributes}".encode(), owner)
        return mode

    def _parts(self, info: FileInfo, marks: str) -> tuple[str, int, bytes]:
        """Return the attributes in the text *marks*, and mode and owner: noted ones count like real ones, whatever the mapping of ids."""
        if not self.tree.keep_owner:
            return "", info.st_mode, b""
        text, _, mode = marks.partition("%")
        attributes, _, owner = text.partition("@")
        noted = Marks(owner=parse_owner(owner.encode()), mode=int(mode, 8) if mode else None)
        ids = noted.owner_of(info.st_uid, info.st_gid)
        return attributes, stat.S_IFMT(info.st_mode) | noted.mode_of(info.st_mode), b"%d:%d" % ids

    def _add(self, kind: bytes, name: bytes, mode: int, value: bytes, owner: bytes) -> None:
        if not self.tree.keep_owner:
            owner = b""
        self.sum.update(b"%b\0%b\0%o\0%b\0%b\0\n" % (kind, name, mode, owner, value))

    def _read(self, dir_fd: int, name: bytes, path: bytes, info: FileInfo) -> str:
        """Return the value of the file; see `Reading`."""
        if not self.reads:
            raise _UnreadError
        fd = open_file(self.tree, dir_fd, name, path, info)
        try:
            is_same = self.reading.read(fd, info, self.check) and same_version(os.fstat(fd), info)
        except OSError as err:
            raise read_error(self.tree, path, err) from err
        finally:
            os.close(fd)
        value = self.reading.get(info)
        if not is_same or value is None:
            raise changed_error(self.tree, path)
        return value


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
    try:
        error = None if same_version(os.fstat(fd), info) else changed_error(tree, path)
    except OSError as err:
        error = read_error(tree, path, err)
    if error is not None:
        os.close(fd)
        raise error
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
