"""The builder's side: detached mounts, and the process that serves them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

from img_core.files import fs
from img_core.linux import mounts, syscalls
from img_core.spec.errors import HostError
from img_snapshotter_fuse._server import LONGEST_REQUEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.spec.host import Spawned, Spawner

__all__ = ["DEVICE", "FuseRoot", "Server", "mount_device", "open_device"]

DEVICE: Final = "/dev/fuse"
_ENTRY: Final = "img_snapshotter_fuse._server:main"


class FuseRoot:
    """A detached mount; *work* is the directory that is useless once it is closed."""

    def __init__(self, fd: int, work: str = "") -> None:
        self.fd = fd
        self._work = work

    def close(self) -> None:
        """Write what the kernel still holds and close the mount, which ends it; harmless when called twice."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        try:
            if self._work:
                _sync(fd)
        except OSError as err:
            raise HostError(f"the server of a FUSE mount has failed: {os.strerror(err.errno or 0).lower()}") from err
        finally:
            os.close(fd)
            self._end()
        if self._work:
            fs.remove_tree(self._work)

    def _end(self) -> None:
        """Wait until nobody writes to the layer any more. Our server has answered all there was; it may serve other mounts."""


def _sync(mount: int) -> None:
    # A container may still be going down with its own reference to the mount: do not rely on the unmount to write all.
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)


def open_device() -> int:
    """Open the device over which a FUSE file system is served.

    Whoever serves it must be the only one that keeps it open: if that process dies, those who wait for an answer get an error.
    """
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        raise HostError(f"cannot open `{DEVICE}`: {os.strerror(err.errno or 0).lower()}") from err


def mount_device(device: int, *, readonly: bool) -> int:
    """Return a detached mount of the file system that is going to be served over *device*."""
    options = [
        ("source", "img"),
        ("fd", str(device)),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
        ("default_permissions", ""),
        ("allow_other", ""),
    ]
    if readonly:
        options.append(
            ("ro", "")
        )  # the file system, not the mount alone: to list a directory leaves its attributes valid then
    try:
        return mounts.create("fuse", options)
    except OSError as err:
        raise HostError(f"cannot mount a FUSE file system: {err.strerror}") from err


class Server:
    """Handle of the serving process, which starts with the first mount and ends with this object."""

    def __init__(self, spawner: Spawner | None) -> None:
        self._spawner = spawner
        self._starting = threading.Lock()  # guards the two below
        self._requests: socket.socket | None = None
        self._process: Spawned | subprocess.Popen[bytes] | None = None

    def mount(self, lowers: Sequence[str], upper: str = "", work: str = "") -> FuseRoot:
        """Return the root of the merged directories; read-only without *upper*. Raises HostError."""
        device = open_device()
        try:
            fd = mount_device(device, readonly=not upper)
            try:
                self._send({"lowers": list(lowers), "upper": upper, "work": work}, device)
            except BaseException:
                os.close(fd)
                raise
            return FuseRoot(fd, work)
        finally:
            os.close(device)

    def _send(self, request: dict[str, object], device: int) -> None:
        message = json.dumps(request).encode()
        if len(message) > LONGEST_REQUEST:
            raise HostError("too many layers for one FUSE mount")
        try:
            socket.send_fds(self._connection(), [message], [device])
        except OSError as err:
            raise HostError("the process that serves FUSE mounts has died") from err

    def _connection(self) -> socket.socket:
        with self._starting:
            if self._requests is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LONGEST_REQUEST)
                with theirs:
                    self._process = self._start(theirs.fileno())
                self._requests = ours
            return self._requests

    def _start(self, fd: int) -> Spawned | subprocess.Popen[bytes]:
        if self._spawner is not None:
            return self._spawner.spawn(_ENTRY, {}, fds=[fd])
        # A program that uses snapshotters without a zygote. It ends when our end of the socket is closed.
        command = [sys.executable, "-m", "img_snapshotter_fuse._server", str(fd)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        return subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL, env=environment)
