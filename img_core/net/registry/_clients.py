"""One client per registry, made when it is first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from img_core.net.registry._client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from img_core.net.registry._retry import Limits
    from img_core.spec.values import Credentials

__all__ = ["Clients"]


class Clients:
    """The clients of one piece of work; see `RegistryClient` for the arguments. Safe to use from several threads."""

    def __init__(
        self,
        *,
        credentials: Callable[[str, str], Credentials | None] = lambda _server, _repository: None,
        insecure: Collection[str] = frozenset(),
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._credentials = credentials
        self._insecure = insecure
        self._environment = environment
        self._limits = limits
        self._made: dict[str, RegistryClient] = {}
        self._made_lock = threading.Lock()

    def get(self, domain: str) -> RegistryClient:
        """Return the client of the registry *domain* (as in `Reference.domain`)."""
        with self._made_lock:
            if domain not in self._made:
                self._made[domain] = RegistryClient(
                    domain,
                    credentials=self._credentials,
                    insecure=self._insecure,
                    environment=self._environment,
                    limits=self._limits,
                )
            return self._made[domain]

    def close(self) -> None:
        """Close all connections; calls that wait for one in other threads raise Canceled."""
        with self._made_lock:
            clients = list(self._made.values())
            self._made.clear()
        for client in clients:
            client.close()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
