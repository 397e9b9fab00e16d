"""Unpack an archive of a stranger into a directory, and only there.

============== =================================== ========================= =========================
mode            ``..`` in a name                    ``.wh.`` entries          used for
============== =================================== ========================= =========================
layer-overlay   refused                             overlay whiteouts         one layer for overlayfs
layer-apply     refused                             delete from lower layers  a layer onto a full tree
plain           stays at the root, as in ``cd /..`` ordinary files            ``ADD archive.tar``
============== =================================== ========================= =========================

Symlinks among the parents of an entry resolve inside the root. An entry replaces what is there, except that a directory
keeps the content of an existing directory. The last component is never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from img_core.archives.tar.member import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    MissingLinkTarget,
)
from img_core.archives.tar.owners import MemberOwners, OwnerPolicy
from img_core.archives.tar.tree import Directory, TargetTree, clean_name
from img_core.archives.tar.whiteouts import Deletions, Ordinary, OverlayMarks, Whiteouts
from img_core.files import fs, xattrs
from img_core.files.fs import mutation
from img_core.spec.errors import ArchiveError, ImgError
from img_core.spec.text import why

if TYPE_CHECKING:
    from img_core.archives.tar.member import Member
    from img_core.archives.tar.reader import TarReader

__all__ = ["Directories", "Mode", "OwnerPolicy", "Stats", "extract", "finish_directories"]

Mode = Literal["layer-overlay", "layer-apply", "plain"]
#: Directories whose metadata is still to be set: mode, mtime in ns, and inode number where others may take the place, else 0.
Directories = dict[bytes, tuple[int, int, int]]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REMEMBERED = 100  # how many left-out entries are named
_IMPLIED = 100_000  # directories without an entry; one name alone may ask for two thousand
_IMPLIED_BYTES = 16 << 20
_DIRECTORIES = 100_000  # how many wait for their mode and time at once
_HOST_ERRORS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTSUP)


@dataclass(slots=True)
class Stats:
    """What `extract` did. *size* counts file content as unpacked, holes included."""

    members: int = 0
    size: int = 0
    skipped: list[bytes] = field(default_factory=list)  #: devices and attributes we may not make, at most 100
    skipped_count: int = 0
    owners: list[tuple[bytes, int, int]] = field(default_factory=list)  #: path, uid, gid that could only be recorded
    implied: list[bytes] = field(default_factory=list)  #: directories that an entry needed and none describes
    root_opaque: bool = False  #: the layer hides everything below it


def extract(
    reader: TarReader,
    root_fd: int,
    *,
    mode: Mode,
    owners: OwnerPolicy | None = None,
    directories: Directories | None = None,
) -> Stats:
    """Unpack everything that *reader* yields below *root_fd*, which names and links cannot leave.

    More layers may follow in the same tree: then *directories* collects what `finish_directories` sets after the last one, so that a
    layer which changes a directory without having an entry for it leaves mode and time alone.
    Raises `ArchiveError` (the archive's fault), `HostError` (ids), `ImgError` (disk, permissions) or what the reader's
    source raised; what was unpacked until then stays, for the caller to remove.
    """
    return _Extractor(root_fd, mode, owners or OwnerPolicy(), directories).run(reader)


class _Extractor:
    def __init__(self, root_fd: int, mode: Mode, policy: OwnerPolicy, directories: Directories | None) -> None:
        self.stats = Stats()
        self.owners = MemberOwners(policy)
        self.layer = mode != "plain"
        self.implied: dict[bytes, None] = {}  # a dict keeps the order and forgets quickly
        self.implied_bytes = 0
        self.tree = TargetTree(root_fd, on_missing=self._implied, replaceable=self._replaceable)
        kinds: dict[Mode, type[Whiteouts]] = {
            "layer-overlay": OverlayMarks,
            "layer-apply": Deletions,
            "plain": Ordinary,
        }
        self.whiteouts = kinds[mode](self.tree)
        # Mode and time of a directory would be disturbed by its content, so they are set at the end.
        self.shared = directories is not None
        self.directories: Directories = {} if directories is None else directories
        self.makers = {
            REGULAR: self._file,
            DIRECTORY: self._directory,
            SYMLINK: self._symlink,
            HARD_LINK: self._hard_link,
            CHARACTER: self._device,
            BLOCK_DEVICE: self._device,
            FIFO: self._device,
        }

    def run(self, reader: TarReader) -> Stats:
        self.reader = reader
        makers = self.makers
        added = self.whiteouts.added
        layer = self.layer
        path = b""
        try:
            for member in reader:
                path = self._path(member.name)
                if not path:
                    self._root(member)
                    continue
                if layer and b".wh." in path and self.whiteouts.handle(path):
                    continue
                head, _, name = path.rpartition(b"/")
                directory = self.tree.parent(head)
                if added is not None:
                    added.add(hash((directory.inode, name)))
                makers[member.type](member, directory, name, path)
            if not self.shared:
                finish_directories(self.tree.root.fd, self.directories)
        except OSError as err:
            if err is reader.source_error:
                raise
            raise _explain(err, path) from err
        self.stats.members = reader.count
        self.stats.owners = self.owners.recorded
        self.stats.implied = list(self.implied)
        self.stats.root_opaque = self.whiteouts.root_opaque
        return self.stats

    # -- names

    def _path(self, name: bytes) -> bytes:
        """Return the path of an entry beneath the root; empty for the archive's own root directory."""
        return clean_name(name) if self.layer else fs.clean_path(name)

    def _root(self, member: Member) -> None:
        """The root belongs to whoever made it: BuildKit leaves its metadata alone, and it is never replaced."""
        if member.type != DIRECTORY:
            raise ArchiveError(f"bad tar archive: `{fs.show(member.name)}` would replace the root directory")

    def _implied(self, path: bytes, above: Directory, name: bytes) -> None:
        self.implied[path] = None
        if self.shared:
            self.directories.pop(path, None)  # it was another directory
        self.implied_bytes += len(path)
        if len(self.implied) > _IMPLIED or self.implied_bytes > _IMPLIED_BYTES:
            raise ArchiveError("bad tar archive: too many directories have no entry of their own")
        self.whiteouts.made_directory(above, name)

    def _replaceable(self, directory: Directory, name: bytes) -> bool:
        return self.whiteouts.gives_way(directory, name)

    def _clear(self, directory: Directory, name: bytes) -> None:
        """Remove what has the *name* of a new entry."""
        self.tree.remove_from(directory, name)

    def _skip(self, path: bytes) -> None:
        self.stats.skipped_count += 1
        if len(self.stats.skipped) < _REMEMBERED:
            self.stats.skipped.append(path)

    # -- entries

    def _file(self, member: Member, directory: Directory, name: bytes, path: bytes) -> None:
        mutation("create", path)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=directory.fd)
        except FileExistsError:
            self._clear(directory, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=directory.fd)
        try:
            self.owners.open_file(fd)
            if member.size:
                mutation("write", path)
                self._write(fd, member)
                self.stats.size += member.size
            # Owner before mode and capabilities: chown(2) clears set-id bits and capabilities, and so does a write.
            self.owners.own_file(fd, member, directory, path)
            self._describe(fd, member, path)
        finally:
            os.close(fd)

    def _describe(self, fd: int, member: Member, path: bytes) -> None:
        """Give an open file attributes, mode and time."""
        if member.xattrs is not None:
            self._set_xattrs(fd, member.xattrs, path)
        os.fchmod(fd, self.owners.mode_of(fd, member, 0o400))
        os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))

    def _write(self, fd: int, member: Member) -> None:
        if member.sparse is not None:
            self._write_sparse(fd, member, member.sparse)
            return
        read = self.reader.read
        while data := read():
            while (written := os.write(fd, data)) < len(data):
                data = data[written:]

    def _write_sparse(self, fd: int, member: Member, segments: list[tuple[int, int]]) -> None:
        """Write the stored segments; the rest of the file is a hole."""
        for offset, length in segments:
            end = offset + length
            while offset < end:
                data = self.reader.read(end - offset)
                while data:
                    written = os.pwrite(fd, data, offset)
                    data = data[written:]
                    offset += written
        os.ftruncate(fd, member.size)

    def _directory(self, member: Member, directory: Directory, name: bytes, path: bytes) -> None:
        mutation("mkdir", path)
        fresh = True
        try:
            fs.mkdir_open(name, 0o700, dir_fd=directory.fd)
        except FileExistsError:
            info = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            fresh = not stat.S_ISDIR(info.st_mode)
            if fresh:
                self._clear(directory, name)
                fs.mkdir_open(name, 0o700, dir_fd=directory.fd)
        if fresh:
            self.whiteouts.made_directory(directory, name)
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory.fd)
        try:
            self.owners.own_directory(fd, member, path)
            if member.xattrs is not None:
                self._set_xattrs(fd, member.xattrs, path)
            inode = os.fstat(fd).st_ino if self.shared else 0
            mode = self.owners.mode_of(fd, member, 0o700)
        finally:
            os.close(fd)
        self.implied.pop(path, None)
        self.directories[path] = (mode, member.mtime_ns, inode)
        if len(self.directories) >= _DIRECTORIES:
            finish_directories(self.tree.root.fd, self.directories, except_above=path)

    def _symlink(self, member: Member, directory: Directory, name: bytes, path: bytes) -> None:
        mutation("symlink", path)
        try:
            os.symlink(member.linkname, name, dir_fd=directory.fd)
        except FileExistsError:
            self._clear(directory, name)
            os.symlink(member.linkname, name, dir_fd=directory.fd)
        self.owners.own_other(name, directory, member, path)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=directory.fd, follow_symlinks=False)

    def _hard_link(self, member: Member, directory: Directory, name: bytes, path: bytes) -> None:
        target = self._path(member.linkname)
        if not target:
            raise ArchiveError(f"bad tar archive: hard link `{fs.show(path)}` to the root directory")
        try:
            try:
                self.tree.link(target, directory, name)
            except FileExistsError:
                if not self._is_same_file(target, directory, name):
                    self._clear(directory, name)
                    self.tree.link(target, directory, name)
            if self.whiteouts.is_mark(directory, name):  # the layer deletes the target
                fs.unlink(name, dir_fd=directory.fd)
                raise FileNotFoundError
        except (FileNotFoundError, NotADirectoryError) as err:
            raise MissingLinkTarget(
                f"bad tar archive: the target of hard link `{fs.show(path)}` is missing: `{fs.show(member.linkname)}`"
            ) from err
        except PermissionError as err:  # what linkat(2) says about a directory
            raise ArchiveError(
                f"bad tar archive: hard link `{fs.show(path)}` to something that is not a file: "
                f"`{fs.show(member.linkname)}`"
            ) from err
        self._describe_again(member, directory, name, path)

    def _describe_again(self, member: Member, directory: Directory, name: bytes, path: bytes) -> None:
        """Give a file what the header of its new name says: the last one counts, as when containerd or docker unpack the archive."""
        fd = _open_file(directory, name)
        if fd is None:
            return
        try:
            self.owners.own_again(fd, member, os.fstat(fd), path)
            self._describe(fd, member, path)
        finally:
            os.close(fd)

    def _is_same_file(self, target: bytes, directory: Directory, name: bytes) -> bool:
        head, _, last = target.rpartition(b"/")
        here = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        there = os.stat(last, dir_fd=self.tree.find(head).fd, follow_symlinks=False)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) and not stat.S_ISDIR(here.st_mode)

    def _device(self, member: Member, directory: Directory, name: bytes, path: bytes) -> None:
        """Make a device or FIFO. A user namespace may not make devices: they are left out and counted."""
        kinds = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
        number = 0
        if member.type != FIFO:
            number = _device_number(member)
            if not self.owners.devices:
                self._clear(directory, name)
                self._skip(path)
                return
        mutation("mknod", path)
        self._clear(directory, name)
        try:
            os.mknod(name, kinds[member.type] | 0o600, number, dir_fd=directory.fd)
        except PermissionError:
            if member.type == FIFO:
                raise
            self._skip(path)
            return
        self.owners.own_other(name, directory, member, path)
        _change_mode(directory.fd, name, member.mode & self.owners.mode_bits, member.type)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=directory.fd, follow_symlinks=False)

    def _set_xattrs(self, fd: int, attributes: dict[bytes, bytes], path: bytes) -> None:
        if prefix := self.owners.attributes:
            attributes = {key: value for key, value in attributes.items() if key.startswith(prefix)}
        try:
            lost = xattrs.write(fd, attributes)
        except OSError as err:  # ENOSPC here mostly means "too large for one inode"
            kind = ArchiveError if err.errno in (errno.E2BIG, errno.ERANGE, errno.ENAMETOOLONG) else ImgError
            reason = why(err)
            raise kind(f"cannot keep the extended attributes of `{fs.show(path)}`: {reason}") from err
        for name in lost:
            self._skip(path + b" (" + name + b")")


def finish_directories(root_fd: int, directories: Directories, except_above: bytes | None = None) -> None:
    """Set modes and times, children before parents, of those of *directories* that are still the same; forget them.

    In the middle of a huge archive, those above *except_above* wait: they are likely to get more entries.
    """
    for path in sorted(directories, reverse=True):
        if except_above is not None and (except_above + b"/").startswith(path + b"/"):
            continue
        mode, mtime, inode = directories.pop(path)
        try:
            fd = fs.open_in_root(root_fd, path, _OPEN_DIRECTORY, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            continue  # a later entry replaced it
        except OSError as err:
            if err.errno != errno.ELOOP:
                raise
            continue
        try:
            if not inode or os.fstat(fd).st_ino == inode:
                os.fchmod(fd, mode)
                os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)


def _device_number(member: Member) -> int:
    """Return the device number; 0:0 is refused because overlayfs takes it for a deletion."""
    major, minor = member.devmajor, member.devminor
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):  # what Linux can represent
        raise ArchiveError(f"bad tar archive: impossible device number of `{fs.show(member.name)}`")
    if major == minor == 0 and member.type == CHARACTER:
        raise ArchiveError(f"bad tar archive: `{fs.show(member.name)}` is a forged whiteout (device 0:0)")
    return os.makedev(major, minor)


def _change_mode(parent_fd: int, name: bytes, mode: int, kind: bytes) -> None:
    """Set the mode of a FIFO or device, because mknod(2) obeys the umask. A device must not be opened for that."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_RDONLY | os.O_NONBLOCK if kind == FIFO else os.O_PATH)
    fd = os.open(name, flags, dir_fd=parent_fd)
    try:
        os.chmod(fd if kind == FIFO else f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _explain(err: OSError, path: bytes) -> ImgError:
    """Tell disk and host problems from paths that an archive must not contain."""
    if err.errno in fs.DISK_ERRORS:
        return fs.disk_error(err, path)
    reason = err.strerror or str(err)
    kind = ImgError if err.errno in _HOST_ERRORS else ArchiveError
    return kind(f"cannot unpack `{fs.show(path)}`: {reason[:1].lower()}{reason[1:]}")


def _open_file(directory: Directory, name: bytes) -> int | None:
    """Open the regular file *name* of ours, whatever its mode, which may be another then; None for anything else."""
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        itself = f"/proc/self/fd/{place}"
        try:
            return os.open(itself, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            os.chmod(itself, 0o600)
            return os.open(itself, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
