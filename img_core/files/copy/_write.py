"""Writes copies of single entries: files, links, nodes, and whole folders of them."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from img_core.files import fs, xattrs
from img_core.files.copy._digest import changed_error, open_file, opened, read_link, same_version
from img_core.files.copy._places import finish_directory
from img_core.files.copy._select import HardLinks
from img_core.files.copy._tree import read_error
from img_core.files.xattrs import Marks
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.files.copy._places import TargetRoot
    from img_core.files.copy._reading import Reading
    from img_core.files.copy._select import Folder, Match
    from img_core.files.copy._tree import FileInfo, SourceTree
    from img_core.files.modes import ModeChange

__all__ = ["CopyWriter"]

Made = TypeVar("Made")

_UNMARKED = Marks()

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Target:
    """An open directory to write into; *path* is where it is in the root, *prefix* where below the copy's destination."""

    fd: int
    path: bytes
    prefix: bytes
    inherits: bool  #: new entries get the group of the directory (set-group-id)

    def of(self, name: bytes) -> bytes:
        """Return the path of *name* in the root."""
        return self.path + b"/" + name if self.path else name


class CopyWriter:
    """Copies from one tree with one ``--chown`` and ``--chmod``.

    *ids* None keeps what the tree says: the recorded or real owners of a stage, 0:0 for a build context. *reading* gets the values of the
    files that are copied.
    """

    def __init__(
        self,
        root: TargetRoot,
        tree: SourceTree,
        ids: tuple[int, int] | None,
        mode: ModeChange,
        warn: Callable[[str], None],
        reading: Reading | None = None,
    ) -> None:
        self.root = root
        self.tree = tree
        self.reading = reading
        self.ids = ids
        self.mode = mode
        self.warn = warn
        self._blind_directory_told = False
        self.links = HardLinks()  # by their names below the destination

    # --- folders ---

    def folders(self, match: Match, target_fd: int, target_path: bytes, check: Callable[[], None]) -> None:
        """Copy the directory *match* into the open directory *target_fd*, which is *target_path* in the root."""
        modes: list[int] = []
        for folder in match.folders:
            check()
            with opened(self.tree, folder.path) as source_fd:
                path = _join(target_path, folder.name)
                marks = self._marks(source_fd, folder.path)
                modes.append(marks.mode_of(folder.info.st_mode))
                if folder.name:
                    self._merge_folder(target_fd, target_path, folder, marks)
                if folder.passage:
                    self.root.note_change(path)
                fd = fs.open_beneath(target_fd, folder.name or b".", os.O_PATH | os.O_DIRECTORY)
                try:
                    target = _Target(fd, path, folder.name, _inherits(fd))
                    for name, info in folder.files:
                        source = folder.path + b"/" + name if folder.path else name
                        self._entry(source_fd, name, source, info, target, name, target_fd)
                finally:
                    os.close(fd)
        # content disturbs the time, and a mode may forbid content
        for folder, mode in zip(reversed(match.folders), reversed(modes), strict=True):
            mtime_ns = None if folder.passage else folder.info.st_mtime_ns
            if folder.name:
                self._finish_directory(target_fd, folder.name, mode, mtime_ns)
                if mtime_ns is not None:
                    self.root.forget_change(_join(target_path, folder.name))
            elif folder.path:  # the destination keeps its own mode and owner
                self.root.note_time(target_path, folder.info.st_mtime_ns)
            else:  # the root of a context says when somebody worked there, and no builder takes that over
                self.root.note_change(target_path)

    def parents(self, match: Match, target_fd: int, target_path: bytes) -> None:
        """Make the directories above *match* that ``--parents`` keeps; those that are there get the mode of the source only."""
        for (name, info), path in zip(match.parents, match.origins, strict=True):
            with opened(self.tree, path) as source_fd:
                marks = self._marks(source_fd, path)._replace(attributes=None)
            if self._make_directory(target_fd, target_path, name):
                self.root.note_change(_join(target_path, name).rpartition(b"/")[0])
                self._look_like(target_fd, name, info, marks, path, fresh=True)
            self._finish_directory(target_fd, name, marks.mode_of(info.st_mode), None)

    def _merge_folder(self, target_fd: int, target_path: bytes, folder: Folder, marks: Marks) -> None:
        """Make *folder* below *target_fd*, or give the directory that is there its owner and attributes."""
        fresh = self._make_directory(target_fd, target_path, folder.name)
        if fresh:
            self.root.note_change(_join(target_path, folder.name).rpartition(b"/")[0])
        if fresh or not folder.passage:
            self._look_like(target_fd, folder.name, folder.info, marks, folder.path, fresh=fresh)

    def _make_directory(self, target_fd: int, target_path: bytes, name: bytes) -> bool:
        """Make directory *name* below *target_fd*; False if there is one already."""
        fs.mutation("mkdir", name)
        try:
            fs.mkdir_open(name, 0o700, dir_fd=target_fd)  # its parents were opened without following links before
        except FileExistsError:
            self._require_directory(target_fd, target_path, name)
            return False
        return True

    def _look_like(
        self, target_fd: int, name: bytes, info: FileInfo, marks: Marks, path: bytes, *, fresh: bool
    ) -> None:
        """Give directory *name* the owner and the attributes of the one with *info* and *marks*, *path* of the tree."""
        fd = fs.open_beneath(target_fd, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._own(fd, marks, info, inherits=True, fresh=fresh)
            self._copy_xattrs(marks, fd, path)
        finally:
            os.close(fd)

    def _finish_directory(self, target_fd: int, name: bytes, source_mode: int, mtime_ns: int | None) -> None:
        mode = self.mode.apply(source_mode, directory=True)
        if self.mode.octal is not None and not mode & 0o100:
            self._tell_blind_directory(mode)
        finish_directory(target_fd, name, mode, mtime_ns, self.root.owners)

    def _require_directory(self, target_fd: int, target_path: bytes, name: bytes) -> None:
        info = os.stat(name, dir_fd=target_fd, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(info.st_mode) else "not a directory"
            path = b"/".join(part for part in (target_path, name) if part)
            raise ImgError(f"cannot copy to non-directory: `/{fs.show(path)}` is {kind}")

    def _tell_blind_directory(self, mode: int) -> None:
        if not self._blind_directory_told:
            self._blind_directory_told = True
            self.warn(
                f"`--chmod={mode:o}` makes directories that nobody but root can enter; `u=rwX,go=rX` treats them apart"
            )

    def _hard_link(self, top_fd: int, first: bytes, target: _Target, name: bytes) -> None:
        fs.mutation("link", name)
        self._replacing(
            target,
            name,
            lambda: os.link(first, name, src_dir_fd=top_fd, dst_dir_fd=target.fd, follow_symlinks=False),
        )

    # --- single entries ---

    def file(
        self,
        match: Match,
        target_fd: int,
        target_path: bytes,
        name: bytes,
        prefix: bytes = b"",
        top_fd: int | None = None,
    ) -> None:
        """Copy the file *match* as *name* into the open directory *target_fd*, which is *target_path* in the root.

        That is *prefix* below the open directory *top_fd* (None: the same directory), the destination of the whole copy.
        """
        head, _, last = match.path.rpartition(b"/")
        self.root.note_change(target_path)
        with opened(self.tree, head) as source_fd:
            target = _Target(target_fd, target_path, prefix, _inherits(target_fd))
            self._entry(source_fd, last, match.path, match.info, target, name, target_fd if top_fd is None else top_fd)

    def _entry(
        self, source_fd: int, source: bytes, path: bytes, info: FileInfo, target: _Target, name: bytes, top_fd: int
    ) -> None:
        """Copy one entry; a second name of a file that was copied already becomes a hard link, as it was in the source."""
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFREG:
            if info.st_nlink > 1:
                below = _join(target.prefix, name)
                first = self.links.first(info, below)
                if first is not None:
                    if first != below:  # a wildcard may find the same file twice
                        self._hard_link(top_fd, first, target, name)
                    return
            self._file(source_fd, source, path, info, target, name)
        elif kind == stat.S_IFLNK:
            self._link(read_link(self.tree, source_fd, source, path), path, info, target, name)
        elif kind == stat.S_IFSOCK:
            self.warn(f"`/{fs.show(path)}` in {self.tree.name} is a socket: not copied")
        else:
            self._node(path, info, target, name)

    def _file(self, source_fd: int, source: bytes, path: bytes, info: FileInfo, target: _Target, name: bytes) -> None:
        fd = open_file(self.tree, source_fd, source, path, info)
        try:
            copy = self._create(target, name)
            try:
                if self.reading is None:
                    is_same = fs.copy_file(fd, copy, info.st_size) == info.st_size
                else:
                    is_same = self.reading.copy(fd, copy, info)
                if not is_same or not same_version(fs.of_source(os.fstat, fd), info):
                    raise changed_error(self.tree, path)
                # In this order: a change of owner takes set-id bits and capabilities away.
                marks = self._marks(fd, path)
                self._own(copy, marks, info, inherits=target.inherits)
                self._copy_xattrs(marks, copy, path)
                mode = self.mode.apply(marks.mode_of(info.st_mode), directory=False)
                os.fchmod(copy, self.root.owners.mode_of(copy, mode, 0o400))
                os.utime(copy, ns=(info.st_mtime_ns, info.st_mtime_ns))
            finally:
                os.close(copy)
        except fs.SourceError as err:
            raise read_error(self.tree, path, err) from err
        finally:
            os.close(fd)

    def content(
        self, content: bytes, mode: int, mtime_ns: int, target_fd: int, target_path: bytes, name: bytes
    ) -> None:
        """Write a new file *name* with *content* into the open directory *target_fd*, which is *target_path* in the root."""
        self.root.note_change(target_path)
        copy = self._create(_Target(target_fd, target_path, b"", True), name)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(copy, view) :]
            self.root.owners.set_fd(copy, *(self.ids or (0, 0)), fresh=True)
            os.fchmod(copy, self.root.owners.mode_of(copy, self.mode.apply(mode, directory=False), 0o400))
            os.utime(copy, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(copy)

    def _create(self, target: _Target, name: bytes) -> int:
        fs.mutation("create", name)
        fd = self._replacing(target, name, lambda: os.open(name, _CREATE, 0o600, dir_fd=target.fd))
        self.root.owners.open_file(fd)
        return fd

    def _replacing(self, target: _Target, name: bytes, make: Callable[[], Made]) -> Made:
        """Make something called *name*; if the name is taken, clear it and make it again."""
        try:
            return make()
        except FileExistsError:
            self._clear(target, name)
            return make()

    def _link(self, text: bytes, path: bytes, info: FileInfo, target: _Target, name: bytes) -> None:
        fs.mutation("symlink", name)
        self._replacing(target, name, lambda: os.symlink(text, name, dir_fd=target.fd))
        self._own_at(path, info, target, name)
        os.utime(name, ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=target.fd, follow_symlinks=False)

    def _node(self, path: bytes, info: FileInfo, target: _Target, name: bytes) -> None:
        """Copy a FIFO or device. A user namespace may not make devices: those are left out with a warning."""
        kind = stat.S_IFMT(info.st_mode)
        fs.mutation("mknod", name)
        device = 0 if kind == stat.S_IFIFO else info.st_rdev
        try:
            self._replacing(target, name, lambda: os.mknod(name, kind | 0o600, device, dir_fd=target.fd))
        except PermissionError:
            self.warn(f"`/{fs.show(path)}` in {self.tree.name} is a device, which only real root may copy: left out")
            return
        self._own_at(path, info, target, name)
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target.fd)
        try:
            os.chmod(f"/proc/self/fd/{fd}", self.mode.apply(info.st_mode, directory=False))
        finally:
            os.close(fd)
        os.utime(name, ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=target.fd, follow_symlinks=False)

    def _clear(self, target: _Target, name: bytes) -> None:
        """Remove what stands in the place of a file; a directory stays, with an error."""
        info = os.stat(name, dir_fd=target.fd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            raise ImgError(f"cannot replace the directory `/{fs.show(target.of(name))}` by a file")
        fs.unlink(name, dir_fd=target.fd)
        self.root.owners.recorded.pop(target.of(name), None)

    # --- owners and attributes ---

    def _marks(self, fd: int, path: bytes) -> Marks:
        """Return what of the open file or directory *fd*, *path* of the tree, goes with a copy."""
        if not self.tree.keep_owner:
            return _UNMARKED
        try:
            return xattrs.read_all(fd)
        except OSError as err:
            raise read_error(self.tree, path, err) from err

    def _wanted(self, info: FileInfo, marks: Marks) -> tuple[int, int]:
        if self.ids is not None:
            return self.ids
        return marks.owner_of(info.st_uid, info.st_gid) if self.tree.keep_owner else (0, 0)

    def _own(self, fd: int, marks: Marks, info: FileInfo, *, inherits: bool, fresh: bool = True) -> None:
        wanted = self._wanted(info, marks)
        if wanted != (0, 0) or inherits:
            self.root.owners.set_fd(fd, *wanted, fresh=fresh)

    def _own_at(self, path: bytes, info: FileInfo, target: _Target, name: bytes) -> None:
        wanted = self._wanted(info, Marks(owner=self.tree.owners.get(path)))
        if wanted != (0, 0) or target.inherits:
            self.root.owners.set_at(target.fd, name, target.of(name), *wanted)

    def _copy_xattrs(self, marks: Marks, target_fd: int, path: bytes) -> None:
        if not marks.attributes:
            return
        try:
            lost = xattrs.write(target_fd, marks.attributes)
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                raise
            lost = list(marks.attributes)
        for name in lost:
            self.warn(f"`/{fs.show(path)}` lost its attribute `{fs.show(name)}`: not supported here")


def _inherits(fd: int) -> bool:
    return bool(os.fstat(fd).st_mode & stat.S_ISGID)


def _join(directory: bytes, name: bytes) -> bytes:
    return b"/".join(part for part in (directory, name) if part)
