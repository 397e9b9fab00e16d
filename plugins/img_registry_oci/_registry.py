"""The driver: one client per registry, made when it is first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import img_core.net.hosts  # noqa: F401  # before others import `urllib.parse`, with more than it needs
from img_core.net.retry import Patience
from img_core.spec.registry import Fetched, Registry, RegistryContext, Uploaded
from img_registry_oci._client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from img_core.spec.values import Descriptor, Digest

__all__ = ["OciRegistry"]

#: Where one can do without an answer: people who work offline should not wait long.
_BRIEF = Patience(tries=2, connect_seconds=5.0)


class OciRegistry(Registry):
    """Speaks the distribution protocol of Docker and OCI."""

    name: ClassVar[str] = "oci"

    def __init__(self, context: RegistryContext, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(context, options)
        self._made: dict[str, RegistryClient] = {}
        self._made_lock = threading.Lock()

    def close(self) -> None:
        """Close all clients."""
        with self._made_lock:
            clients = list(self._made.values())
            self._made.clear()
        for client in clients:
            client.close()

    def ping(self, domain: str) -> None:
        """Ask for ``/v2/``."""
        self._client(domain).ping()

    def resolve(self, repository: str, reference: str) -> Digest | None:
        """Send a HEAD request."""
        client, path = self._at(repository)
        return client.resolve(path, reference)

    def fetch_document(self, repository: str, reference: str) -> Fetched:
        """Send a GET request, to mirrors first."""
        client, path = self._at(repository)
        return client.manifest(path, reference)

    def fetch_blob(
        self, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
    ) -> Iterator[bytes]:
        """Send GET requests, to mirrors first. Descriptor ``urls`` are not used."""
        client, path = self._at(repository)
        return client.blob(path, descriptor, verify=verify, start=start)

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Uploaded:
        """Look, mount or send; *mount_from* counts if it is of the same registry."""
        client, path = self._at(repository)
        domain, _, other = (mount_from or "").partition("/")
        return client.upload(path, descriptor, read, mount_from=other if domain == client.domain else None)

    def put_document(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        """Send a PUT request, and keep the list of referrers where the registry does not."""
        client, path = self._at(repository)
        return client.put_manifest(path, reference, content, media_type)

    def delete_document(self, repository: str, reference: str) -> None:
        """Send a DELETE request for the digest: not every registry can delete a tag."""
        client, path = self._at(repository)
        digest = reference if ":" in reference else client.resolve(path, reference)
        client.delete_manifest(path, digest or reference)

    def tags(self, repository: str) -> list[str]:
        """Ask for all pages."""
        client, path = self._at(repository)
        return client.tags(path)

    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> list[Descriptor]:
        """Ask for all pages, or read the list that clients keep."""
        client, path = self._at(repository)
        return client.referrers(path, digest, artifact_type=artifact_type)

    def _at(self, repository: str) -> tuple[RegistryClient, str]:
        """Return the client of the registry that holds *repository*, and what that is called there."""
        domain, _, path = repository.partition("/")
        return self._client(domain), path

    def _client(self, domain: str) -> RegistryClient:
        with self._made_lock:
            if domain not in self._made:
                context = self.context
                self._made[domain] = RegistryClient(
                    domain,
                    credentials=context.credentials,
                    insecure=context.insecure,
                    environment=context.environment,
                    limits=_BRIEF if context.brief else None,
                )
            return self._made[domain]
