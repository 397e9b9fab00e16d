"""Which sessions serve a repository: its mirrors first, its registry last."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from img_core.net.retry import Patience
from img_core.spec.errors import RegistryError
from img_registry_oci._config import HostsConfig, endpoint_host
from img_registry_oci._session import RegistrySession

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from img_core.spec.values import Credentials
    from img_registry_oci._config import Endpoint, Rules

__all__ = ["Places", "RepositoryPlace"]

_MIRROR_TRIES = 2
_MIRROR_SECONDS = 10.0


class RepositoryPlace(NamedTuple):
    """A session, and what the repository is called there."""

    session: RegistrySession
    repository: str


class Places:
    """The sessions of one registry *domain*; see `RegistryClient` for the arguments. Safe to use from several threads."""

    def __init__(
        self,
        domain: str,
        *,
        credentials: Callable[[str, str], Credentials | None],
        insecure: Collection[str],
        environment: Mapping[str, str] | None,
        limits: Patience | None,
    ) -> None:
        self._domain = domain
        self._credentials = credentials
        self._insecure = frozenset(insecure)
        self._environment = os.environ if environment is None else environment
        self._limits = limits or Patience()
        self._configured = cache(HostsConfig(self._environment).rules)  # looks for files; once per repository
        self._lock = threading.Lock()  # guards the two below
        self._sessions: dict[tuple[str, Endpoint], RegistrySession] = {}
        self._broken: set[RegistrySession] = set()
        self._closed = False

    def main(self, repository: str) -> RepositoryPlace:
        """Return where *repository* really is. Raises RegistryError if that is blocked."""
        endpoint = self._rules(repository).main
        # A password belongs to the host that it was given for, and not to a name that is served elsewhere.
        account = self._domain if endpoint.host == endpoint_host(self._domain) else endpoint.host
        return RepositoryPlace(self._session(account, endpoint, self._limits), endpoint.repository(repository))

    def all(self, repository: str, *, by_digest: bool) -> list[RepositoryPlace]:
        """Return where to pull *repository* from, in order; the last one is `main`. *by_digest*: what is asked for is named by digest."""
        rules = self._rules(repository)
        limits = replace(
            self._limits,
            tries=min(self._limits.tries, _MIRROR_TRIES),
            total_seconds=min(self._limits.total_seconds, _MIRROR_SECONDS),
        )
        mirrors = [
            RepositoryPlace(self._session(mirror.host, mirror, limits), mirror.repository(repository))
            for mirror in rules.mirrors
            if mirror.when in ("all", "digest" if by_digest else "tag")
        ]
        return [*(place for place in mirrors if place.session not in self._broken), self.main(repository)]

    def give_up(self, place: RepositoryPlace) -> None:
        """Do not ask a mirror again that did not work."""
        with self._lock:
            self._broken.add(place.session)

    def close(self) -> None:
        """Close all sessions."""
        with self._lock:
            self._closed = True
            sessions = list(self._sessions.values())
        for session in sessions:
            session.close()

    def _rules(self, repository: str) -> Rules:
        rules = self._configured(self._domain, repository)
        if rules.blocked:
            raise RegistryError(f"registry `{self._domain}` is blocked by {rules.blocked}")
        return rules

    def _session(self, domain: str, endpoint: Endpoint, limits: Patience) -> RegistrySession:
        key = (domain, replace(endpoint, path="", strip="", when="all"))
        with self._lock:
            if key not in self._sessions:
                insecure = self._insecure | {endpoint.host} if endpoint.insecure else self._insecure
                self._sessions[key] = session = RegistrySession(
                    domain,
                    host=endpoint.host,
                    credentials=self._credentials,
                    insecure=insecure,
                    trust=endpoint.trust,
                    environment=self._environment,
                    limits=limits,
                )
                if self._closed:
                    session.close()
            return self._sessions[key]
