"""Secrets and ssh agents of a build: read when a step asks for them, kept in memory, gone with the build.

Their content never reaches a cache key, a layer, a log or the disk: files live on a tmpfs that only this process and the steps can see,
or in memory without a name where nothing can be mounted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.linux.private_files import PrivateFiles
from img_core.linux.ssh_relay import Relay
from img_core.spec.errors import HostError, ImgError, UsageError
from img_core.spec.secret import SECRET_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from img_core.files.ownership import Owners

__all__ = ["Secrets"]


class Secrets:
    """What one build was given: *secrets* read one each, by its id; *agents* are the sockets of ssh agents.

    *run_directory* must be on a path of this process alone, in its own mount namespace.
    Without *mounts* this process has none: then a secret is a file without a name. *owners* note its look if they must.
    """

    def __init__(
        self,
        run_directory: str,
        secrets: Mapping[str, Callable[[], bytes]],
        agents: Mapping[str, str] | None = None,
        *,
        mounts: bool = True,
        owners: Owners | None = None,
    ) -> None:
        self._files = PrivateFiles(os.path.join(run_directory, "secrets"), mounts=mounts)
        self._files.owners = owners
        self._owners = owners if owners is not None and owners.opens else None
        self._secrets, self._agents = dict(secrets), dict(agents or {})

    def read(self, name: str, *, required: bool = False) -> bytes | None:
        """Return the secret called *name*, or None. Raises ImgError if there is none but *required*, UsageError if it cannot be read."""
        read = self._secrets.get(name)
        if read is None:
            if required:
                raise ImgError(
                    f"secret {fs.show(name)}: not found", hint=f"give it with `--secret id={fs.show(name)},src=FILE`"
                )
            return None
        data = read()
        if len(data) > SECRET_LIMIT:
            raise UsageError(f"secret {fs.show(name)} too big. max size 500KiB")
        return data

    def file(self, opened: ExitStack, data: bytes, *, uid: int, gid: int, mode: int) -> int:
        """Return a descriptor of a file with *data* that only the step and we can see."""
        if self._owners is None:
            return self._files.file(opened, data, uid=uid, gid=gid, mode=mode)
        descriptor = self._files.file(opened, data, uid=0, gid=0, mode=0o600)
        with suppress(HostError, OSError):  # before Linux 6.6 memory keeps no attributes
            self._owners.set_fd(descriptor, uid, gid, fresh=True)
            mode = self._owners.mode_of(descriptor, mode, 0o400)
        os.fchmod(descriptor, mode | 0o400)
        return descriptor

    def agent(self, opened: ExitStack, name: str, required: bool, owner: tuple[int, int], mode: int) -> int | None:
        """Return a descriptor of a socket that leads to the agent *name*, or None if there is none."""
        socket = self._agents.get(name)
        if socket is None:
            if required:
                raise ImgError(
                    f'no SSH key "{fs.show(name)}" forwarded from the client',
                    hint=f"give it with `--ssh {fs.show(name)}`",
                )
            return None
        usable = mode if self._owners is None else mode | 0o600
        descriptor, listener = self._files.listener(opened, uid=owner[0], gid=owner[1], mode=usable)
        opened.callback(Relay(listener, socket).stop)
        return descriptor

    def close(self) -> None:
        """Unmount the tmpfs."""
        self._files.close()
