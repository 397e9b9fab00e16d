"""Deletions in layers: ``.wh.name`` deletes *name* of lower layers, ``.wh..wh..opq`` everything in its directory.

(OCI image-spec, layer.md, "Whiteouts".) A deletion concerns lower layers only: it never removes what its own layer
adds, wherever in the archive it stands.
"""

from __future__ import annotations

import errno
import os
import stat

from img_core.archives.tar.tree import Directory, TargetTree
from img_core.files import fs
from img_core.files.fs import mutation
from img_core.files.xattrs import OPAQUE
from img_core.spec.errors import ArchiveError

__all__ = ["OPAQUE_NAME", "PREFIX", "Deletions", "Ordinary", "OverlayMarks", "Whiteouts"]

PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
_META = b".wh..wh."  # other control files of AUFS; they mean nothing to anybody else

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Whiteouts:
    """What one extraction does with deletions; one subclass per mode."""

    #: Identities (`hash` of parent inode and name) of what the layer added, where a mode needs them: eight bytes that
    #: can be kept for a million entries, and that are the same whatever symlink led there.
    added: set[int] | None = None

    def __init__(self, tree: TargetTree) -> None:
        self.tree = tree
        self.root_opaque = False

    def handle(self, path: bytes) -> bool:
        """Act on *path* if it is a deletion or control file; False for an ordinary entry."""
        head, _, name = path.rpartition(b"/")
        for part in head.split(b"/"):
            if part.startswith(PREFIX):
                self._refuse_unless_meta(part, path)
                return True
        if not name.startswith(PREFIX):
            return False
        if name == OPAQUE_NAME:
            self.root_opaque |= not head
            self.hide_all(head)
        elif not name.startswith(_META):
            target = name[len(PREFIX) :]
            if target in (b"", b".", b".."):
                raise ArchiveError(f"bad tar archive: whiteout without a name: `{fs.show(path)}`")
            self.hide(head, target)
        return True

    def _refuse_unless_meta(self, part: bytes, path: bytes) -> None:
        if not part.startswith(_META):
            raise ArchiveError(f"bad tar archive: a whiteout is used as a directory: `{fs.show(path)}`")

    def hide(self, head: bytes, name: bytes) -> None:
        """Delete *name* of lower layers in the directory *head*."""
        raise NotImplementedError

    def hide_all(self, head: bytes) -> None:
        """Delete everything of lower layers in the directory *head*."""
        raise NotImplementedError

    def made_directory(self, directory: Directory, name: bytes) -> None:
        """Note that the layer made the directory *name*, which did not exist."""

    def is_mark(self, directory: Directory, name: bytes) -> bool:
        """Tell whether *name* is a mark of ours that may give way to a directory."""
        return False

    def gives_way(self, directory: Directory, name: bytes) -> bool:
        """Tell whether *name*, which is no directory, may give way to a directory that an entry of the layer needs."""
        return self.is_mark(directory, name)


class Ordinary(Whiteouts):
    """``plain``: the names have no meaning."""

    def handle(self, path: bytes) -> bool:
        """Nothing is a deletion."""
        return False


class OverlayMarks(Whiteouts):
    """``layer-overlay``: marks that overlayfs obeys, a character device 0:0 or an attribute on a directory.

    The tree holds this layer alone, so whatever exists is the layer's own and stays.
    """

    def __init__(self, tree: TargetTree) -> None:
        super().__init__(tree)
        self._hidden: set[int] = set()  # identities, as in `added`

    def hide(self, head: bytes, name: bytes) -> None:
        """Mark *name*; a directory that the layer adds itself becomes opaque instead."""
        directory = self.tree.parent(head)
        self._hidden.add(hash((directory.inode, name)))
        mutation("whiteout", name)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory.fd)
        except FileExistsError:
            self.made_directory(directory, name)

    def hide_all(self, head: bytes) -> None:
        """Make the directory opaque."""
        directory = self.tree.parent(head)
        _set_opaque(directory.fd, b".")

    def made_directory(self, directory: Directory, name: bytes) -> None:
        """A directory in the place of a deleted one must not merge with it."""
        if hash((directory.inode, name)) in self._hidden:
            _set_opaque(directory.fd, name)

    def is_mark(self, directory: Directory, name: bytes) -> bool:
        """Tell whether *name* is the mark of an earlier deletion."""
        info = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


class Deletions(Whiteouts):
    """``layer-apply``: really delete, except what the layer added."""

    def __init__(self, tree: TargetTree) -> None:
        super().__init__(tree)
        self.added: set[int] = set()
        # Directories that hold nothing of lower layers any more: a second look would find nothing, and an archive that
        # asks for it ten thousand times would keep us busy.
        self._purged: set[int] = set()

    def made_directory(self, directory: Directory, name: bytes) -> None:
        """Implied directories are the layer's own, too."""
        self.added.add(hash((directory.inode, name)))

    def gives_way(self, directory: Directory, name: bytes) -> bool:
        """What a lower layer has is hidden by what an entry of this one needs; the layer must not contradict itself."""
        return hash((directory.inode, name)) not in self.added

    def hide(self, head: bytes, name: bytes) -> None:
        """Delete *name*, or what is left of it without the layer's own entries."""
        directory = self._find(head)
        if directory is None:
            return
        if _is_directory(directory.fd, name):
            self._purge(directory, name)
        elif hash((directory.inode, name)) not in self.added:
            self.tree.remove_from(directory, name)

    def hide_all(self, head: bytes) -> None:
        """Delete the content of a directory, except the layer's own entries."""
        directory = self._find(head)
        if directory is None or directory.inode in self._purged:
            return
        fd = os.open(b".", _OPEN_DIRECTORY, dir_fd=directory.fd)
        try:
            names = os.listdir(fd)
        finally:
            os.close(fd)
        for name in names:
            self.hide(head, os.fsencode(name))
        self._purged.add(directory.inode)

    def _find(self, head: bytes) -> Directory | None:
        try:
            return self.tree.find(head)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _purge(self, directory: Directory, name: bytes) -> None:
        """Delete the lower layers' part of a directory tree: without recursion, files first, then bottom up.

        The tree is walked by descriptors; each level keeps one open, and levels are as deep as a path can be.
        """
        self.tree.forget()
        todo = [(directory, name, False)]
        while todo:
            above, name, emptied = todo.pop()
            own = hash((above.inode, name)) in self.added
            if emptied:
                if not own:
                    self._remove_if_empty(above, name)
                continue
            here = Directory(os.open(name, _OPEN_DIRECTORY, dir_fd=above.fd))
            if here.inode in self._purged:
                continue
            self._purged.add(here.inode)
            todo.append((above, name, True))
            with os.scandir(here.fd) as entries:
                for entry in entries:
                    child = os.fsencode(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((here, child, False))
                    elif hash((here.inode, child)) not in self.added:
                        fs.unlink(child, dir_fd=here.fd)

    def _remove_if_empty(self, above: Directory, name: bytes) -> None:
        try:
            fs.rmdir(name, dir_fd=above.fd)
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # it holds entries of this layer
                raise


def _is_directory(parent_fd: int, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _set_opaque(parent_fd: int, name: bytes) -> None:
    """Mark directory *name* opaque; nothing happens when it is not a directory."""
    try:
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent_fd)
    except OSError as err:
        if err.errno in (errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        mutation("opaque", name)
        os.setxattr(fd, OPAQUE, b"y")
    finally:
        os.close(fd)
