"""Secrets and ssh agents of a build: read when a step asks for them, kept in memory, gone with the build.

Their content never reaches a cache key, a layer, a log or the disk: files live on a tmpfs that only this process and the steps can see,
or in memory without a name where nothing can be mounted.
"""

from __future__ import annotations

import os
import secrets as random
import socket
import stat
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.linux import syscalls
from img_core.linux.ssh_relay import Relay, short_address
from img_core.spec.errors import ImgError, UsageError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from img_core.solver.secret_sources import SecretSource, SshAgent

__all__ = ["SECRET_LIMIT", "Secrets"]

#: BuildKit's limit, in bytes
SECRET_LIMIT = 500 * 1024


class Secrets:
    """What one build was given. *run_directory* must be on a path of this process alone, in its own mount namespace.

    Without *mounts* this process has none: then a secret is a file without a name (memfd_create(2)).
    """

    def __init__(
        self,
        run_directory: str,
        environment: Mapping[str, str],
        sources: Mapping[str, SecretSource] | None = None,
        agents: Mapping[str, SshAgent] | None = None,
        *,
        mounts: bool = True,
    ) -> None:
        self._mounts = mounts
        self._run_directory = run_directory
        self._environment = environment
        self._sources = dict(sources or {})
        self._agents = dict(agents or {})
        self._mounting = threading.Lock()
        self._mounted = ""

    def read(self, name: str, *, required: bool = False) -> bytes | None:
        """Return the secret called *name*, or None. Raises ImgError if there is none but *required*, UsageError if it cannot be read."""
        source = self._sources.get(name)
        if source is None:
            if required:
                raise ImgError(
                    f"secret {fs.show(name)}: not found", hint=f"give it with `--secret id={fs.show(name)},src=FILE`"
                )
            return None
        if source.value is not None:
            data = source.value
        elif source.variable:
            data = os.fsencode(self._environment.get(source.variable, ""))
        else:
            data = _read_file(source.path)
        if len(data) > SECRET_LIMIT:
            raise UsageError(f"secret {fs.show(name)} too big. max size 500KiB")
        return data

    def file(self, opened: ExitStack, data: bytes, *, uid: int, gid: int, mode: int) -> int:
        """Return a descriptor of a file with *data* on the private tmpfs, or in memory."""
        if not self._mounts:
            return _memory_file(opened, data, uid, gid, mode)
        path = os.path.join(self._directory(), random.token_hex(8))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        opened.callback(os.unlink, path)
        try:
            os.write(descriptor, data)
            os.fchmod(descriptor, mode)
            _own(descriptor, uid, gid)
        finally:
            os.close(descriptor)
        return _opened_path(opened, path)

    def agent(self, opened: ExitStack, name: str, *, required: bool, uid: int, gid: int, mode: int) -> int | None:
        """Return a descriptor of a socket that leads to the agent *name*, or None if there is none."""
        agent = self._agents.get(name)
        if agent is None:
            if required:
                raise ImgError(
                    f'no SSH key "{fs.show(name)}" forwarded from the client',
                    hint=f"give it with `--ssh {fs.show(name)}`",
                )
            return None
        path = os.path.join(self._directory(), random.token_hex(8))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.callback(listener.close)
        with short_address(path) as address:
            listener.bind(address)
        opened.callback(os.unlink, path)
        os.chmod(path, mode)
        _own(path, uid, gid)
        listener.listen()
        relay = Relay(listener, agent.path)
        opened.callback(relay.stop)
        return _opened_path(opened, path)

    def _directory(self) -> str:
        """Return a directory on a tmpfs of our own, mounted when first needed; it goes with our mount namespace."""
        with self._mounting:
            if not self._mounted:
                path = os.path.join(self._run_directory, "secrets")
                os.mkdir(path, 0o700)
                if self._mounts:
                    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
                    syscalls.mount("tmpfs", path, "tmpfs", flags, "mode=0700,size=64m")
                self._mounted = path
            return self._mounted

    def close(self) -> None:
        """Unmount the tmpfs."""
        with self._mounting:
            if self._mounted:
                if self._mounts:
                    syscalls.umount2(self._mounted, syscalls.MNT_DETACH)
                os.rmdir(self._mounted)
                self._mounted = ""


def _read_file(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise UsageError(f"failed to stat {fs.show(path)}: {reason}") from err
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) and path != "/dev/null":
            raise UsageError(f"secret file `{fs.show(path)}` is not a regular file")
        return file.read(SECRET_LIMIT + 1)


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
