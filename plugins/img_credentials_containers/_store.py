"""``auth.json`` of podman, buildah and skopeo; see containers-auth.json(5)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from img_core.spec.credentials import CredentialStore
from img_lib_credentials import AuthFile, hub_name_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from img_core.spec.values import Credentials

__all__ = ["ContainersStore"]


class ContainersStore(CredentialStore):
    """``$REGISTRY_AUTH_FILE``; else ``containers/auth.json`` in the runtime directory, then in the configuration directory.

    The runtime directory is emptied when the user logs out of the machine, so we write there only if it holds a file already.
    """

    name: ClassVar[str] = "containers"

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self._paths = list(_paths(environment))
        self._files = [AuthFile(path, environment, key_of=hub_name_key) for path in self._paths]

    def takes(self, server: str) -> bool:
        """Take new logins only where the user says so; elsewhere Docker's file is the common place."""
        return bool(self.environment.get("REGISTRY_AUTH_FILE"))

    def get(self, server: str, repository: str = "") -> Credentials | None:
        """Return the credentials for *server* from the first file that has some."""
        for file in self._files:
            credentials = file.get(server, repository)
            if credentials is not None:
                return credentials
        return None

    def store(self, server: str, credentials: Credentials) -> None:
        """Keep *credentials* in the first file there is, else in a new one."""
        existing = [file for path, file in zip(self._paths, self._files, strict=True) if os.path.exists(path)]
        file = [*existing, *self._files[-1:], AuthFile(None, self.environment)][0]
        file.store(server, credentials)

    def erase(self, server: str) -> bool:
        """Forget *server* in all files."""
        erased = [file.erase(server) for file in self._files]
        return any(erased)

    def list(self) -> Mapping[str, str]:
        """Return server to user name."""
        found: dict[str, str] = {}
        for file in reversed(self._files):
            found |= file.list()
        return found


def _paths(environment: Mapping[str, str]) -> Iterator[str]:
    """Give the files to read, the best first."""
    chosen = environment.get("REGISTRY_AUTH_FILE")
    if chosen:
        yield chosen
        return
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield os.path.join(runtime, "containers", "auth.json")
    home = environment.get("HOME")
    if config := environment.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else ""):
        yield os.path.join(config, "containers", "auth.json")
