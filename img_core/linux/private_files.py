"""Files and sockets that only this process and those it starts can see: on a tmpfs of our own mount namespace, gone with it."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from img_core.linux import syscalls
from img_core.linux.ssh_relay import short_address
from img_core.spec.errors import HostError

if TYPE_CHECKING:
    from contextlib import ExitStack

__all__ = ["PrivateFiles"]


class Owners(Protocol):
    """What gives files away, see `img_core.files.ownership.Owners`."""

    def set_fd(self, fd: int, uid: int, gid: int, *, fresh: bool = False) -> None:
        """Give the open file *fd* its owner. Raises OSError, HostError."""


class PrivateFiles:
    """A tmpfs at *path*, which does not exist yet and must be in a mount namespace of our own; it is mounted when first needed.

    Without *mounts* this process cannot mount: a file has no name then (memfd_create(2)), and the directory protects sockets.

    What is made for one use goes with its `ExitStack`, and descriptors of it (``O_PATH``) can be mounted elsewhere.
    """

    def __init__(self, path: str, *, mounts: bool = True) -> None:
        self._path = path
        self.owners: Owners | None = None  #: give or note the owners of files with a name
        self._mounts = mounts
        self._mounting = threading.Lock()
        self._is_made = False

    def file(self, opened: ExitStack, data: bytes, *, uid: int, gid: int, mode: int) -> int:
        """Return a descriptor of a file with *data*."""
        if not self._mounts:
            return _memory_file(opened, data, uid, gid, mode)
        path = self._new_path()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        opened.callback(os.unlink, path)
        try:
            os.write(descriptor, data)
            if self.owners is None:
                _own(descriptor, uid, gid)
            else:
                with suppress(OSError, HostError):  # before Linux 6.6 a tmpfs keeps no attributes
                    self.owners.set_fd(descriptor, uid, gid, fresh=True)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        return _opened_path(opened, path)

    def listener(self, opened: ExitStack, *, uid: int, gid: int, mode: int) -> tuple[int, socket.socket]:
        """Return a descriptor of a socket that can be connected to, and the socket that listens there."""
        path = self._new_path()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.callback(listener.close)
        with short_address(path) as address:
            listener.bind(address)
        opened.callback(os.unlink, path)
        os.chmod(path, mode)
        _own(path, uid, gid)
        listener.listen()
        return _opened_path(opened, path), listener

    def _new_path(self) -> str:
        with self._mounting:
            if not self._is_made:
                os.mkdir(self._path, 0o700)
                if self._mounts:
                    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
                    syscalls.mount("tmpfs", self._path, "tmpfs", flags, "mode=0700,size=64m")
                self._is_made = True
        return os.path.join(self._path, secrets.token_hex(8))

    def close(self) -> None:
        """Unmount the tmpfs."""
        with self._mounting:
            if self._is_made:
                if self._mounts:
                    syscalls.umount2(self._path, syscalls.MNT_DETACH)
                os.rmdir(self._path)
                self._is_made = False


def _memory_file(opened: ExitStack, data: bytes, uid: int, gid: int, mode: int) -> int:
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    opened.callback(os.close, descriptor)
    os.write(descriptor, data)
    os.fchmod(descriptor, mode)
    _own(descriptor, uid, gid)
    return descriptor


def _own(target: int | str, uid: int, gid: int) -> None:
    if uid or gid:
        try:
            os.chown(target, uid, gid)
        except OSError:  # only one id is mapped: the step runs as the owner whatever its user
            pass


def _opened_path(opened: ExitStack, path: str) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    opened.callback(os.close, descriptor)
    return descriptor
