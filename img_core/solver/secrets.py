"""Secrets and ssh agents of a build: read when a step asks for them, kept in memory, gone with the build.

Their content never reaches a cache key, a layer, a log or the disk: files live on a tmpfs that only this process and the steps can see,
or in memory without a name where nothing can be mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.linux.private_files import PrivateFiles
from img_core.linux.ssh_relay import Relay
from img_core.spec.errors import ImgError, UsageError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from img_core.solver.secret_sources import SecretSource, SshAgent

__all__ = ["SECRET_LIMIT", "Secrets"]

#: BuildKit's limit, in bytes
SECRET_LIMIT = 500 * 1024


class Secrets:
    """What one build was given. *run_directory* must be on a path of this process alone, in its own mount namespace.

    Without *mounts* this process has none: then a secret is a file without a name.
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
        self._files = PrivateFiles(os.path.join(run_directory, "secrets"), mounts=mounts)
        self._environment = environment
        self._sources = dict(sources or {})
        self._agents = dict(agents or {})

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
        """Return a descriptor of a file with *data* that only the step and we can see."""
        return self._files.file(opened, data, uid=uid, gid=gid, mode=mode)

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
        descriptor, listener = self._files.listener(opened, uid=uid, gid=gid, mode=mode)
        opened.callback(Relay(listener, agent.path).stop)
        return descriptor

    def close(self) -> None:
        """Unmount the tmpfs."""
        self._files.close()


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
