"""The directory tree that an archive is unpacked into: every path is resolved inside its root by the kernel.

`TargetTree.parent` is the hot path of extraction. Directories are kept open, so most files cost no resolution at all, and
an entry is always made relative to a descriptor with its last component never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from img_core.files import fs
from img_core.files.fs import mutation
from img_core.spec.errors import ArchiveError

__all__ = ["Directory", "TargetTree", "clean_name"]

_CACHED = 128  # open directories; the usual limit is 1024 descriptors
_OPEN_PARENT = os.O_PATH | os.O_DIRECTORY
_NEW_MODE = 0o755


class Directory:
    """An open directory: who it is, and whether its files inherit the group. Closed with its last reference.

    That is why nobody can use a descriptor after `TargetTree.forget` and hit another file that got its number.
    """

    __slots__ = ("fd", "inherits", "inode")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info = os.fstat(fd)
        self.inode = info.st_ino
        self.inherits = bool(info.st_mode & stat.S_ISGID)

    def __del__(self) -> None:
        os.close(self.fd)


def clean_name(name: bytes) -> bytes:
    """Return *name* without leading, trailing and doubled slashes and ``.``; the root is the empty name.

    Raises `ArchiveError` for ``..``: no builder writes it into a layer, and readers disagree about it.
    """
    if name[:2] == b"./":
        name = name[2:]
    if b"//" not in name and b"/." not in name and name[:1] not in (b"/", b".", b""):  # nearly every name
        return name[:-1] if name[-1:] == b"/" else name
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ArchiveError(f"bad tar archive: `{fs.show(name)}` contains `..`")
    return b"/".join(parts)


class TargetTree:
    """Rooted operations below *root_fd*, which the caller keeps open.

    *on_missing* is called with (path, directory above, name) of every directory made because an entry needed it.
    *replaceable* tells whether the non-directory *name* may be replaced by a directory that an entry needs.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        on_missing: Callable[[bytes, Directory, bytes], None] | None = None,
        replaceable: Callable[[Directory, bytes], bool] | None = None,
    ) -> None:
        self.root = Directory(os.dup(root_fd))
        self._open: dict[bytes, Directory] = {b"": self.root}
        self._on_missing = on_missing
        self._replaceable = replaceable

    def forget(self) -> None:
        """Drop kept directories: something on a path may have been replaced."""
        self._open = {b"": self.root}

    def find(self, path: bytes) -> Directory:
        """Return the directory *path*, links resolved inside the root. Raises `OSError`, as `open_in_root` does."""
        found = self._open.get(path)
        if found is not None:
            return found
        head, _, name = path.rpartition(b"/")
        above = self._open.get(head)
        if above is not None and name != b"..":
            try:  # half the price of a resolution from the root; a symlink ends in ENOTDIR
                fd = os.open(name, _OPEN_PARENT | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above.fd)
                return self._keep(path, Directory(fd))
            except NotADirectoryError:
                pass
        return self._keep(path, Directory(fs.open_in_root(self.root.fd, path, _OPEN_PARENT)))

    def parent(self, path: bytes) -> Directory:
        """Like `find`, but make the directory and its parents where they are missing."""
        found = self._open.get(path)
        if found is not None:
            return found
        try:
            return self.find(path)
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        return self._make_parents(path)

    def _keep(self, path: bytes, directory: Directory) -> Directory:
        if len(self._open) >= _CACHED:
            self.forget()
        self._open[path] = directory
        return directory

    def _make_parents(self, path: bytes) -> Directory:
        """Go up to the first directory that exists, then down again: cheap even for very deep paths."""
        missing: list[bytes] = []
        while True:
            missing.append(path)
            path, _, _ = path.rpartition(b"/")
            try:
                directory = self.find(path)
                break
            except (FileNotFoundError, NotADirectoryError):
                continue
        for path in reversed(missing):
            directory = self._make_parent(directory, path)
        return directory

    def _make_parent(self, above: Directory, path: bytes) -> Directory:
        name = path[path.rfind(b"/") + 1 :]
        try:
            fs.mkdir(name, _NEW_MODE, dir_fd=above.fd)
        except FileExistsError:  # a file, or a link that leads nowhere
            if self._replaceable is None or not self._replaceable(above, name):
                raise OSError(errno.ENOTDIR, "a parent is not a directory", path) from None
            self.remove_from(above, name)
            fs.mkdir(name, _NEW_MODE, dir_fd=above.fd)
        directory = self._keep(path, Directory(os.open(name, _OPEN_PARENT | os.O_NOFOLLOW, dir_fd=above.fd)))
        if self._on_missing is not None:
            self._on_missing(path, above, name)
        return directory

    def remove_from(self, directory: Directory, name: bytes) -> None:
        """Remove the entry *name* of *directory*, whatever it is; nothing happens when it does not exist."""
        try:
            info = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(info.st_mode):
            self.forget()
            fs.remove_entry(directory.fd, name)
            return
        if stat.S_ISLNK(info.st_mode):
            self.forget()
        fs.unlink(name, dir_fd=directory.fd)

    def link(self, target: bytes, directory: Directory, name: bytes) -> None:
        """Make *name* in *directory* a hard link to *target*, whose parents are resolved inside the root."""
        head, _, last = target.rpartition(b"/")
        source = self.find(head)
        mutation("link", name)
        os.link(last, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
