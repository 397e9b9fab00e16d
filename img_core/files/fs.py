"""Every change of the disk, and every look into a tree that an image or a context controls.

Three rules live here so that nobody else needs to remember them:

* what hostile content names is opened beneath its root by directory descriptors, never by joining strings;
* files that people rely on appear whole: temporary name in the same directory, then rename;
* each mutation passes `mutation` first, so that tests can crash or fail at any of them (see `faults`).

Sync policy: nothing is synced while it is written. What has to last is synced once, by `sync_filesystem`, when that makes nobody wait
(`syncs_soon`). ``IMG_SYNC=0`` turns that off for tests and throw-away machines.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from img_core.files import _rooted, faults
from img_core.files._remove import remove_entry, remove_tree
from img_core.files.faults import mutation
from img_core.files.walker import Walk
from img_core.linux.spans import span
from img_core.spec._lazy import names_from
from img_core.spec.errors import ImgError
from img_core.spec.text import show_path as show

if TYPE_CHECKING:
    from img_core.files._contents import SourceError, copy_and_read, copy_file, copy_known, of_source

__all__ = [
    "AtomicFile",
    "ReadFile",
    "SourceError",
    "clean_path",
    "copy_and_read",
    "copy_file",
    "copy_known",
    "disk_errors",
    "faults",
    "link",
    "make_directories",
    "make_private",
    "mkdir",
    "mkdir_open",
    "mutation",
    "of_source",
    "open_as_named",
    "open_beneath",
    "open_in_root",
    "opened_directory",
    "place_of",
    "read_bounded",
    "remove_entry",
    "remove_tree",
    "rename",
    "replace_file",
    "rmdir",
    "show",
    "symlink",
    "sync_files",
    "sync_filesystem",
    "syncs_soon",
    "unlink",
]

__getattr__ = names_from(
    __name__,
    {"img_core.files._contents": ("SourceError", "copy_and_read", "copy_file", "copy_known", "of_source")},
)

Path = bytes | str | os.PathLike[str]

_SYNC = os.environ.get("IMG_SYNC", "1") != "0"
_LITTLE = 32 << 20  #: bytes that a disk writes in a fraction of a second
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


# -------------------------------------------------------------------------------------------------- translating


def place_of(err: OSError, otherwise: Path) -> Path:
    """Return the path that *err* names, or *otherwise*: calls on a descriptor name nothing, or its number."""
    named: object = err.filename
    return named if isinstance(named, (str, bytes)) else otherwise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or failing disk into a one-line `ImgError` that names *path*."""
    try:
        yield
    except OSError as err:
        if err.errno not in DISK_ERRORS:
            raise
        raise disk_error(err, path) from err


def disk_error(err: OSError, path: Path) -> ImgError:
    """Describe *err*, which happened while writing *path*."""
    hint = "free some space, for example with `img prune`" if err.errno in (errno.ENOSPC, errno.EDQUOT) else None
    return ImgError(f"{os.strerror(err.errno or errno.EIO).lower()}: `{show(path)}`", hint=hint)


# ------------------------------------------------------------------------------------------------------ rooted opens


def _announce(flags: int, path: bytes) -> None:
    if flags & (os.O_CREAT | os.O_TRUNC):
        mutation("create" if flags & os.O_CREAT else "truncate", path)


class ReadFile(io.FileIO):
    """The file *path*, to be read. What the disk says is told with its name: whoever writes meanwhile must not take it for theirs."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path)
        except FileNotFoundError:
            raise
        except OSError as err:
            raise ImgError(f"cannot read `{show(path)}`: {os.strerror(err.errno or errno.EIO).lower()}") from err

    def read(self, size: int | None = -1, /) -> Any:  # Any: as in the library
        """See `io.RawIOBase.read`."""
        with disk_errors(self._path):
            return super().read(size)

    def readinto(self, buffer: Any, /) -> Any:
        """See `io.RawIOBase.readinto`."""
        with disk_errors(self._path):
            return super().readinto(buffer)

    @property
    def _path(self) -> str:
        return str(self.name)


def open_as_named(path: Path) -> BinaryIO:
    """Open the file *path* for reading, in the place of which there may be anything: no link is followed, and a FIFO is not waited for."""
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


@contextlib.contextmanager
def opened_directory(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Give a descriptor of the directory *path*, which nobody else can put links on the way to, for a block. Raises OSError."""
    fd = os.open(path, flags | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def clean_path(text: bytes) -> bytes:
    """Return *text* as a path from the root of a tree: no leading slash, no ``.``, and ``..`` stays at the root, as in ``cd /..``."""
    parts: list[bytes] = []
    for part in text.split(b"/"):
        if part == b"..":
            if parts:
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def open_in_root(root_fd: int, path: bytes, flags: int, mode: int = 0, *, follow: bool = True) -> int:
    """Open *path* as if *root_fd* were ``/``: absolute links and ``..`` stay inside.

    With ``follow=False`` a symlink as the last component is not followed (``ELOOP``, or the link itself with
    ``O_PATH``). The descriptor is close-on-exec. Opening for reading should add ``O_NONBLOCK``, see `read_bounded`.
    """
    _announce(flags, path)
    flags |= 0 if follow else os.O_NOFOLLOW
    return _rooted.open_rooted(root_fd, path, flags, mode, _rooted.RESOLVE_IN_ROOT | _rooted.RESOLVE_NO_MAGICLINKS)


def open_beneath(root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open *path* beneath *root_fd* without following any symlink (``ELOOP``); ``..`` may not leave it (``EXDEV``)."""
    _announce(flags, path)
    resolve = _rooted.RESOLVE_BENEATH | _rooted.RESOLVE_NO_SYMLINKS | _rooted.RESOLVE_NO_MAGICLINKS
    return _rooted.open_rooted(root_fd, path, flags | os.O_NOFOLLOW, mode, resolve)


def read_bounded(root_fd: int, path: bytes, limit: int) -> bytes:
    """Read the regular file *path*, resolved inside *root_fd*, of at most *limit* bytes.

    Raises `OSError` when it cannot be opened and `ImgError` when it is a FIFO, device, directory or too large:
    opening a FIFO without ``O_NONBLOCK`` would wait for ever.
    """
    fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ImgError(f"not a regular file: `{show(path)}`")
        data = _rooted.read_up_to(fd, limit + 1)
    finally:
        os.close(fd)
    if len(data) > limit:
        raise ImgError(f"larger than {limit} bytes: `{show(path)}`")
    return data


def make_directories(root_fd: int, path: bytes, mode: int = 0o755, uid: int = -1, gid: int = -1) -> int:
    """Make *path* and its missing parents inside *root_fd*, following symlinks inside it; return an ``O_PATH`` fd.

    Only directories made here get *mode* and owner (-1 keeps the caller's). Raises `OSError`: ``ENOTDIR`` when
    something else is in the way, ``ELOOP`` for a circle of links.
    """
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_in_root(root_fd, path, flags)
    except FileNotFoundError:
        pass
    with Walk(root_fd, path) as position:
        while (name := position.next()) is not None:
            try:
                fd = position.look(name)
            except FileNotFoundError:
                mkdir(name, mode, dir_fd=position.here, uid=uid, gid=gid)
                fd = position.look(name)
            position.go(name, fd)
        return position.leave()


# ------------------------------------------------------------------------------------------------- single mutations


def mkdir(path: Path, mode: int = 0o777, *, dir_fd: int | None = None, uid: int = -1, gid: int = -1) -> None:
    """Make one directory with exactly *mode* when *dir_fd* is given, else subject to the umask."""
    mutation("mkdir", os.fspath(path))
    os.mkdir(path, mode, dir_fd=dir_fd)
    if dir_fd is None:
        return
    _open_to_owner(path, dir_fd)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        if uid != -1 or gid != -1:
            os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def mkdir_open(name: Path, mode: int, *, dir_fd: int) -> int:
    """Make the directory *name* in *dir_fd* with *mode*, less the umask, and give its owner all rights; return the mode that it had.

    An access control list that *dir_fd* hands down, see acl(5), may take what *mode* gives, and in such a directory who has no capability
    could do nothing. Who calls this numbers the change, see `mutation`.
    """
    os.mkdir(name, mode, dir_fd=dir_fd)
    return _open_to_owner(name, dir_fd)


def _open_to_owner(directory: Path, dir_fd: int) -> int:
    """Give the owner of a new *directory* all rights; return its mode before."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{fd}", mode | 0o700)
    finally:
        os.close(fd)
    return mode


def make_private(path: str) -> None:
    """Make the directory *path* for this user alone, with the user's own group also in a set-group-ID directory.

    Such a group, of a project on a cluster or of a volume in Kubernetes, need not exist in our user namespace, and everything below,
    layers included, would belong to it.
    """
    mkdir(path, 0o700)
    if os.stat(path).st_mode & stat.S_ISGID:
        mutation("chown", path)
        os.chown(path, -1, os.getegid())
        os.chmod(path, 0o700)


def rmdir(path: Path, *, dir_fd: int | None = None) -> None:
    """Remove one empty directory."""
    mutation("rmdir", os.fspath(path))
    os.rmdir(path, dir_fd=dir_fd)


def unlink(path: Path, *, dir_fd: int | None = None) -> None:
    """Remove one name that is not a directory."""
    mutation("unlink", os.fspath(path))
    os.unlink(path, dir_fd=dir_fd)


def symlink(target: Path, path: Path, *, dir_fd: int | None = None) -> None:
    """Make the symbolic link *path* with the text *target*."""
    mutation("symlink", os.fspath(path))
    os.symlink(target, path, dir_fd=dir_fd)


def link(source: Path, path: Path, *, source_dir_fd: int | None = None, dir_fd: int | None = None) -> None:
    """Make *path* another name of *source*, which is not followed when it is a symlink."""
    mutation("link", os.fspath(path))
    os.link(source, path, src_dir_fd=source_dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)


def rename(source: Path, path: Path, *, source_dir_fd: int | None = None, dir_fd: int | None = None) -> None:
    """Give *source* the name *path*, replacing what can be replaced atomically."""
    mutation("rename", os.fspath(path))
    os.rename(source, path, src_dir_fd=source_dir_fd, dst_dir_fd=dir_fd)


def syncs_soon() -> bool:
    """Tell whether `sync_filesystem` would be done soon: little of what anybody wrote is still in memory only (proc_meminfo(5))."""
    if not _SYNC:
        return True
    try:
        with open("/proc/meminfo", "rb") as file:
            lines = [line.split() for line in file.read(16384).splitlines()]
    except OSError:
        return True
    waiting = sum(int(line[1]) for line in lines if line[0] in (b"Dirty:", b"Writeback:", b"NFS_Unstable:"))
    return waiting * 1024 <= _LITTLE


def sync_filesystem(fd: int) -> None:
    """Write everything of the file system that *fd* is on to the disk (syncfs(2)). Raises `OSError`."""
    mutation("sync")
    if _SYNC:
        with span("sync", "syncfs"):
            _rooted.kernel().syncfs(fd)


def sync_files(directory: Path, names: Iterable[str]) -> None:
    """Write the files *names* of *directory*, and the directory itself, to the disk; what vanished needs no care. Raises `OSError`."""
    mutation("sync")
    if not _SYNC:
        return
    with opened_directory(directory) as directory_fd:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
                try:
                    _fsync(descriptor)
                finally:
                    os.close(descriptor)
        _fsync(directory_fd)


def _fsync(fd: int) -> None:
    with span("sync", "fsync"):
        os.fsync(fd)


# ------------------------------------------------------------------------------------------------------ whole files


_CLOSED = -1
_PERHAPS_MADE = -2


class AtomicFile:
    """A file that appears under its final name complete, or not at all.

    It is written under a temporary name in *directory*, which must be on the file system of the final name.
    As a context manager it removes the temporary file unless `commit` was called; so it does when a signal raises before the block.
    """

    def __init__(self, directory: Path, *, mode: int = 0o600, prefix: str = ".tmp-") -> None:
        self.path = os.path.join(os.fsdecode(directory), prefix + os.urandom(8).hex())
        self.size = 0  #: bytes written by `write`
        mutation("create", self.path)
        self._fd = _PERHAPS_MADE
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except OSError:
            self._fd = _CLOSED
            raise

    def fileno(self) -> int:
        """Return the open descriptor, for reading back, copying into or `os.fchmod`."""
        return self._fd

    def write(self, data: bytes | memoryview) -> int:
        """Append all of *data*."""
        mutation("write", self.path)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)
        return len(data)

    def commit(self, final_path: Path, *, sync: bool = False) -> None:
        """Publish under *final_path*; *sync* only for a file that is not part of a synced transaction."""
        if sync:
            mutation("sync", self.path)
            if _SYNC:
                _fsync(self._fd)
        rename(self.path, final_path)
        self._close()

    def abort(self) -> None:
        """Remove the temporary file; harmless after `commit` and when called twice."""
        if self._fd == _CLOSED:
            return
        self._close()
        with contextlib.suppress(FileNotFoundError):
            unlink(self.path)

    def _close(self) -> None:
        fd, self._fd = self._fd, _CLOSED
        if fd != _PERHAPS_MADE:
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def replace_file(path: Path, data: bytes, mode: int = 0o600, *, sync: bool = False) -> None:
    """Replace or make *path* with *data*, atomically."""
    directory = os.path.dirname(os.fsdecode(path)) or "."
    with disk_errors(path), AtomicFile(directory, mode=mode) as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.commit(path, sync=sync)
