"""Docker's ``config.json``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.files.on_path import program_on_path
from img_core.spec.credentials import CredentialStore
from img_lib_credentials import AuthFile, load_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.values import Credentials

__all__ = ["DockerConfigStore"]


class DockerConfigStore(CredentialStore):
    """``$DOCKER_CONFIG/config.json``, else ``$HOME/.docker/config.json``; ``$HOME/.dockercfg`` is read if there is neither."""

    name: ClassVar[str] = "dockerconfig"

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        directory, home = environment.get("DOCKER_CONFIG"), environment.get("HOME")
        directory = directory or (os.path.join(home, ".docker") if home else None)
        self._file = AuthFile(
            os.path.join(directory, "config.json") if directory else None,
            environment,
            older=self._read_older,
            default_helper=self._default_helper,
        )

    def get(self, server: str, repository: str = "") -> Credentials | None:
        """Return the credentials for *server*; a namespace entry (``host/team``) wins for repositories in it."""
        return self._file.get(server, repository)

    def store(self, server: str, credentials: Credentials) -> None:
        """Keep *credentials*; in the file only if no helper is configured for *server*."""
        self._file.store(server, credentials)

    def erase(self, server: str) -> bool:
        """Forget *server* under every spelling."""
        return self._file.erase(server)

    def list(self) -> Mapping[str, str]:
        """Return server to user name; identity tokens have an empty one."""
        return self._file.list()

    def _default_helper(self) -> str | None:
        """Return what Docker uses on Linux where nothing is configured: `pass` if that is installed, else the desktop's keyring."""
        name = "pass" if program_on_path("pass", self.environment) else "secretservice"
        return name if program_on_path(f"docker-credential-{name}", self.environment) else None

    def _read_older(self) -> dict[str, Any] | None:  # Any: JSON
        """Return what versions of Docker before 1.7 left; they knew nothing but ``auths``."""
        home = self.environment.get("HOME")
        if self.environment.get("DOCKER_CONFIG") or not home:
            return None
        old = load_object(os.path.join(home, ".dockercfg"))
        return None if old is None else {"auths": old}
