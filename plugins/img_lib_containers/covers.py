"""What a step is to see at places of its root file system, where nothing can be mounted.

It is put into the tree, what was there waits elsewhere, and afterwards all is as if nothing had been there: what the step did to these
places is gone, as with mounts. Nothing runs in the tree while this works on it, and every lookup stays beneath the root.
"""

from __future__ import annotations

import os
import select
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from img_core.files import fs
from img_core.files.locks import lock_file
from img_core.linux import sandbox, syscalls
from img_core.spec.errors import Canceled, HostError, StepError
from img_lib_containers.lending import GONE, LendingNote, is_there
from img_lib_containers.mountpoints import MountPoints
from img_lib_layers.clone import clone_tree, copy_attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.spec.executor import Mount

__all__ = ["Covers", "check_canceled", "handed_over"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: major and minor numbers of `sandbox.DEVICES`, see Documentation/admin-guide/devices.txt of the kernel
_NUMBERS: Final = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_DIRECTORIES: Final = (("shm", 0o1777), ("pts", 0o755), ("mqueue", 0o755))


def check_canceled(cancel_fd: int) -> None:
    """Raise Canceled if *cancel_fd* (-1: there is none) is readable."""
    if cancel_fd >= 0 and select.select([cancel_fd], [], [], 0)[0]:
        raise Canceled


def handed_over(fd: int) -> bool:
    """Tell whether what *fd* names lives in memory only (a secret): then it must not be copied to the disk."""
    return os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")


@dataclass(frozen=True, slots=True)
class _Covered:
    """A place: *name* in the directory *parent*, whose times were *atime* and *before*, and *after* once it was covered."""

    parent: int
    name: bytes
    aside: str  #: where the original waits; empty if there was none
    atime: int
    before: int
    after: int
    take_back: Callable[[int, bytes], None] | None


class Covers:
    """The places of one step. Use as a context manager; leaving gives the tree back.

    *aside* is a directory on the file system of the tree, outside of it, for what is in the way. Who *hands_out* what lives in memory
    gets it in `memory`; else it becomes a file of the tree for as long as the step lasts. Tree and directories serve one step at a time:
    waiting for them raises Canceled when *cancel_fd*, if it is not -1, becomes readable. *keeper* is the process that ends those of the
    step when ours was killed (0: none).
    """

    def __init__(
        self, root_fd: int, aside: str, *, hands_out: bool = True, cancel_fd: int = -1, keeper: int = 0
    ) -> None:
        self._root_fd = root_fd
        self._note = LendingNote(root_fd, aside, keeper)
        self._aside = aside
        self._hands_out = hands_out
        self._cancel_fd = cancel_fd
        self._undo = ExitStack()  # newest first, so that every directory gets back the times it had
        self.real_devices = (
            True  #: False: /dev holds links with the names of devices, and somebody has to hand the devices out
        )
        self._lent: dict[int, str] = {}  # inode number -> target, of directories that are in the tree
        self.memory: dict[str, int] = {}  #: target -> descriptor, of what is handed out instead of what is in the tree

    def __enter__(self) -> Covers:
        tree = os.open(".", _DIRECTORY, dir_fd=self._root_fd)
        try:
            lock_file(tree, self._check)
        except BaseException:
            os.close(tree)
            raise
        self._undo.callback(os.close, tree)
        self._undo.callback(self._note.remove)
        return self

    def _check(self) -> None:
        check_canceled(self._cancel_fd)

    def __exit__(self, *_exception: object) -> None:
        self._undo.close()

    def put_system(self, shm_size: int) -> None:
        """Provide /proc and /sys (empty) and /dev."""
        del shm_size  # nothing here can hold a directory to a size
        for name in ("proc", "sys", "dev"):
            MountPoints(self._root_fd).refuse_symlink(name)
        self._put("/proc", True, _directory(0o555))
        self._put("/sys", True, _directory(0o555))
        self._put("/dev", True, self._make_devices)

    def put(self, mount: Mount) -> None:
        """Provide what *mount* wants. Raises StepError for a target that cannot be, HostError for a source that cannot."""
        if mount.kind == "tmpfs":
            self._put(mount.target, True, _directory(mount.mode))
            return
        kind = os.fstat(mount.source_fd).st_mode
        if stat.S_ISDIR(kind):
            self._put_directory(mount)
        elif stat.S_ISSOCK(kind):
            self._put(mount.target, False, lambda parent, name: _link(mount.source_fd, parent, name))
        elif self._hands_out and handed_over(mount.source_fd):
            self._put(mount.target, False, lambda parent, name: _placeholder(mount.source_fd, parent, name))
            self.memory[os.path.normpath(mount.target)] = mount.source_fd
        else:
            self._put(mount.target, False, lambda parent, name: _copy_file(mount.source_fd, parent, name))

    def _put_directory(self, mount: Mount) -> None:
        if mount.readonly:
            self._put(mount.target, True, lambda parent, name: _copy_directory(mount.source_fd, parent, name))
            return
        origin = os.readlink(f"/proc/self/fd/{mount.source_fd}")
        source = os.open(f"/proc/self/fd/{mount.source_fd}", _DIRECTORY)
        self._undo.callback(os.close, source)
        inode = os.fstat(source).st_ino
        if elsewhere := self._lent.get(inode):
            raise StepError(
                f"cannot mount at `{mount.target}` what is mounted at `{elsewhere}`: here a directory can be at one place at a time",
                hint="mount it once, or one of them with `readonly`",
            )
        lock_file(source, self._check)
        self._lent[inode] = mount.target

        def lend(parent: int, name: bytes) -> None:
            try:
                fs.rename(origin, name, dir_fd=parent)
            except OSError as err:
                reason = os.strerror(err.errno or 0).lower()
                raise HostError(
                    f"cannot give the step `{fs.show(origin)}` at `{mount.target}`: {reason}",
                    hint="the state directory must be one file system, in the container's own writable layer or in one volume",
                ) from err

        def take_back(parent: int, name: bytes) -> None:
            if os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino == inode:
                fs.rename(name, origin, source_dir_fd=parent)

        self._undo.callback(_replace_lost, origin, source)
        self._put(mount.target, True, lend, take_back, (origin, inode))

    def _put(
        self,
        target: str,
        directory: bool,
        make: Callable[[int, bytes], None],
        take_back: Callable[[int, bytes], None] | None = None,
        lent: tuple[str, int] = ("", 0),
    ) -> None:
        above, _, last = os.path.normpath(target).rpartition("/")
        points = self._undo.enter_context(MountPoints(self._root_fd))
        if above:
            points.ensure(above, directory=True)
        parent = syscalls.openat2(self._root_fd, above or ".", _DIRECTORY)
        self._undo.callback(os.close, parent)
        name = os.fsencode(last)
        before = os.fstat(parent)
        aside = ""
        if is_there(parent, name):
            if _leads_somewhere(self._root_fd, target):
                points.ensure(target, directory=directory)  # of the right kind, or an error
            aside = f"{self._aside}/{os.urandom(8).hex()}"
        self._note.add(parent, name, aside, lent)
        if aside:
            fs.rename(name, aside, source_dir_fd=parent)
        try:
            make(parent, name)
        finally:
            after = os.fstat(parent).st_mtime_ns
            covered = _Covered(parent, name, aside, before.st_atime_ns, before.st_mtime_ns, after, take_back)
            self._undo.callback(_uncover, covered)

    def _make_devices(self, parent: int, name: bytes) -> None:
        _directory(0o755)(parent, name)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            for device in sandbox.DEVICES:
                self._make_device(fd, device)
            for directory, mode in _DEVICE_DIRECTORIES:
                _directory(mode)(fd, directory.encode())
            for link, text in (*sandbox.DEVICE_LINKS, ("pts/ptmx", "ptmx")):
                fs.symlink(text, link, dir_fd=fd)
        finally:
            os.close(fd)

    def _make_device(self, fd: int, device: str) -> None:
        try:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(*_NUMBERS[device]), dir_fd=fd)
        except PermissionError:  # in a user namespace
            self.real_devices = False
            fs.symlink(device, device, dir_fd=fd)  # what leads here leads nowhere, and is found out (`_links`)
            return
        os.chmod(device, 0o666, dir_fd=fd)  # noqa: S103 - whatever the umask says, as everywhere


def _uncover(place: _Covered) -> None:
    now = os.fstat(place.parent).st_mtime_ns
    try:
        if place.take_back is not None:
            place.take_back(place.parent, place.name)
    except OSError as err:
        if err.errno not in GONE:
            raise
    fs.remove_tree(place.name, dir_fd=place.parent)
    if place.aside:
        try:
            fs.rename(place.aside, place.name, dir_fd=place.parent)
        except OSError as err:
            if err.errno not in GONE:  # the step has removed the directory that it was in
                raise
            fs.remove_tree(place.aside)
    untouched = now == place.after
    os.utime(place.parent, ns=(place.atime, place.before if untouched else now))


def _leads_somewhere(root_fd: int, target: str) -> bool:
    """Tell whether *target* leads somewhere."""
    try:
        os.close(syscalls.openat2(root_fd, target, os.O_PATH))
    except FileNotFoundError:
        return False
    except OSError as err:
        raise StepError(f"cannot mount at `{target}`: {os.strerror(err.errno or 0)}") from err
    return True


def _directory(mode: int) -> Callable[[int, bytes], None]:
    return lambda parent, name: fs.mkdir(name, mode, dir_fd=parent)


def _copy_directory(source_fd: int, parent: int, name: bytes) -> None:
    fs.mkdir(name, 0o700, dir_fd=parent)
    source = os.open(f"/proc/self/fd/{source_fd}", _DIRECTORY)
    try:
        target = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            clone_tree(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_file(source_fd: int, parent: int, name: bytes) -> None:
    info = os.fstat(source_fd)
    source = os.open(f"/proc/self/fd/{source_fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            fs.copy_file(source, target, info.st_size)
            _take_looks(target, info, source)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _placeholder(source_fd: int, parent: int, name: bytes) -> None:
    """Make a file that looks like *source_fd* from outside; its content is a hole."""
    info = os.fstat(source_fd)
    target = os.open(name, _CREATE, 0o600, dir_fd=parent)
    try:
        os.ftruncate(target, info.st_size)
        _take_looks(target, info)
    finally:
        os.close(target)


def _take_looks(fd: int, info: os.stat_result, source: int = -1) -> None:
    os.fchown(fd, info.st_uid, info.st_gid)
    if source >= 0:
        copy_attributes(source, fd)
    os.fchmod(fd, stat.S_IMODE(info.st_mode))
    os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))


def _link(source_fd: int, parent: int, name: bytes) -> None:
    """Make the socket behind *source_fd* have another name: whoever connects to it there gets the same listener."""
    try:
        os.link(f"/proc/self/fd/{source_fd}", name, dst_dir_fd=parent, follow_symlinks=True)
    except OSError as err:
        raise HostError(f"cannot give the step a socket: {(err.strerror or '').lower()}") from err


def _replace_lost(origin: str, source: int) -> None:
    """Make *origin* anew, empty, if the step has removed what it was lent."""
    if not os.path.lexists(origin):
        info = os.fstat(source)
        fs.mkdir(origin, 0o700)
        os.chown(origin, info.st_uid, info.st_gid)
        os.chmod(origin, stat.S_IMODE(info.st_mode))
