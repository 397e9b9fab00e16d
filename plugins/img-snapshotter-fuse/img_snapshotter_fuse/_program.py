"""The program ``fuse-overlayfs`` in place of our own server; what it writes is brought into the kernel's form afterwards.

It knows whiteouts as the kernel does, but marks replaced directories by attributes and files of its own.
"""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING, Any, Final

from img_core.files import fs
from img_snapshotter_fuse._mount import FuseRoot, mount_device, open_device
from img_snapshotter_fuse._stack import OPAQUE, ORIGIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec.host import Spawned, Spawner

__all__ = ["Program", "main", "normalise"]

_ENTRY: Final = "img_snapshotter_fuse._program:main"
_PATIENCE: Final = 10_000  # milliseconds for the program to end after its mount
_OWN_XATTRS: Final = "user.fuseoverlayfs."
_OPAQUE_FILES: Final = (b".wh..wh..opq", b".wh..opq")
_WHITEOUT: Final = b".wh."


class Program:
    """Mounts served by a process of *path* each."""

    def __init__(self, path: str, spawner: Spawner | None) -> None:
        self._path = path
        self._spawner = spawner

    def mount(self, lowers: Sequence[str], upper: str = "", work: str = "") -> FuseRoot:
        """Return the root of the merged directories; read-only without *upper*. Raises HostError."""
        device = open_device()
        try:
            fd = mount_device(device, readonly=not upper)
            request = {"program": self._path, "lowers": list(lowers), "upper": upper, "work": work}
            try:
                process = self._start(request, device)
            except BaseException:
                os.close(fd)
                raise
        finally:
            os.close(device)
        return _ProgramRoot(fd, process, upper, work)

    def _start(self, request: Mapping[str, Any], device: int) -> Spawned:
        if self._spawner is not None:
            return self._spawner.spawn(_ENTRY, request, fds=[device])
        return _Forked(request, device)


class _Forked:
    """A process of a program that uses snapshotters without a zygote; it becomes the program at once."""

    error = ""

    def __init__(self, request: Mapping[str, Any], device: int) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                main(request, [device])
            finally:
                os._exit(1)
        self.pidfd = os.pidfd_open(self.pid)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, 9)

    def close(self) -> None:
        os.close(self.pidfd)


class _ProgramRoot(FuseRoot):
    """A mount of the program's, which has to end before its work is looked at."""

    def __init__(self, fd: int, process: Spawned, upper: str, work: str) -> None:
        super().__init__(fd, work)
        self._process = process
        self._upper = upper

    def close(self) -> None:
        """Close the mount, wait for the program, bring the new layer into form; harmless when called twice."""
        if self.fd < 0:
            return
        super().close()
        if self._upper:
            normalise(self._upper)

    def _end(self) -> None:
        """Wait for the program: it tidies up in its work directory to the end."""
        poll = select.poll()
        poll.register(self._process.pidfd, select.POLLIN)
        if not poll.poll(_PATIENCE):
            self._process.kill()
        self._process.wait()
        self._process.close()


def main(request: Mapping[str, Any], fds: Sequence[int]) -> int:  # Any: JSON
    """Become the program."""
    os.set_inheritable(fds[0], True)
    # Without collected writes, for whose time it does not care.
    options = ["writeback=0", "lowerdir=" + ":".join(map(_handle, request["lowers"]))]
    if request["upper"]:
        options += [f"upperdir={_handle(request['upper'])}", f"workdir={_handle(request['work'])}"]
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.umask(0)
    command = [request["program"], "-f", "-o", ",".join(options), f"/dev/fd/{fds[0]}"]
    os.execve(command[0], command, {"PATH": os.defpath})  # noqa: S606
    return 1


def _handle(path: str) -> str:
    """Return a name of *path* that is short and has no separators in it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(fd, True)
    return f"/proc/self/fd/{fd}"


def normalise(layer: str) -> None:
    """Replace the program's marks in the directory *layer* by those of the kernel's overlayfs; times stay as they are."""
    for path, directories, files, fd in os.fwalk(os.fsencode(layer), follow_symlinks=False):
        for name in [b".", *directories, *files]:
            _translate(fd, name)
        marks = [name for name in files if name.startswith(_WHITEOUT)]
        if marks:
            info = os.fstat(fd)
            for name in marks:
                _replace_mark(fd, name, root=path == os.fsencode(layer))
            os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))


def _replace_mark(directory: int, name: bytes, *, root: bool) -> None:
    fs.unlink(name, dir_fd=directory)
    if name not in _OPAQUE_FILES:
        os.mknod(name[len(_WHITEOUT) :], stat.S_IFCHR, 0, dir_fd=directory)
    elif not root:
        os.setxattr(directory, OPAQUE, b"y")


def _translate(directory: int, name: bytes) -> None:
    """Replace the program's attributes on one file or directory."""
    place = b"/proc/self/fd/%d/" % directory + name
    info = os.stat(place, follow_symlinks=False)
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        return
    for attribute in os.listxattr(place, follow_symlinks=False):
        if attribute.startswith(_OWN_XATTRS):
            value = os.getxattr(place, attribute, follow_symlinks=False)
            os.removexattr(place, attribute, follow_symlinks=False)
            if attribute.endswith(".opaque"):
                os.setxattr(place, OPAQUE, value, follow_symlinks=False)
            elif attribute.endswith(".origin"):
                os.setxattr(place, ORIGIN, b"", follow_symlinks=False)
