"""Credential stores: what to tell a registry about us."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from img_core.spec.values import Credentials

__all__ = ["CredentialStore"]


class CredentialStore(ABC):
    """Keeps credentials of registries.

    *server* is the registry's ``host[:port]`` (Docker Hub: ``docker.io``); *repository* its path, or empty for the whole server.
    Secrets never appear in messages. *environment* is the user's environment (``HOME``, ``DOCKER_CONFIG``…).
    """

    name: ClassVar[str]
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON

    def __init__(self, environment: Mapping[str, str], options: Mapping[str, Any] | None = None) -> None:
        self.environment = environment
        self.options = dict(options or {})

    @abstractmethod
    def get(self, server: str, repository: str = "") -> Credentials | None:
        """Return the credentials for *server*, or None if it has none. Raises CredentialsError when the store cannot be read."""

    def takes(self, server: str) -> bool:
        """Tell whether a new login for *server* shall be kept here: the first store in the configured order that says so gets it."""
        return True

    @abstractmethod
    def store(self, server: str, credentials: Credentials) -> None:
        """Keep *credentials* for *server*; atomic, readable by the user only."""

    @abstractmethod
    def erase(self, server: str) -> bool:
        """Forget *server*; return whether there was something to forget."""

    @abstractmethod
    def list(self) -> Mapping[str, str]:
        """Return server to user name for all it knows."""
