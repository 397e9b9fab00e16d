"""The registry of who must ask none (``--offline``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from img_core.images.digests import is_digest
from img_core.spec.errors import RegistryError
from img_core.spec.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.spec.values import Descriptor, Digest

__all__ = ["OfflineRegistry"]


class OfflineRegistry(Registry):
    """Asks nobody: whatever needs a registry raises RegistryError that names what it needs."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def ping(self, domain: str) -> NoReturn:
        """Raise RegistryError, as all that follow do."""
        raise RegistryError(f"with `--offline` {domain} is not asked")

    def resolve(self, repository: str, reference: str) -> NoReturn:
        """See `Registry.resolve`; raises RegistryError."""
        raise _missing(repository, reference)

    def fetch_document(self, repository: str, reference: str) -> NoReturn:
        """See `Registry.fetch_document`; raises RegistryError."""
        raise _missing(repository, reference)

    def fetch_blob(
        self, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
    ) -> Iterator[bytes]:
        """See `Registry.fetch_blob`; raises RegistryError."""
        raise _missing(repository, descriptor.digest)

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> NoReturn:
        """See `Registry.upload`; raises RegistryError."""
        self.ping(repository)

    def put_document(self, repository: str, reference: str, content: bytes, media_type: str) -> NoReturn:
        """See `Registry.put_document`; raises RegistryError."""
        self.ping(repository)

    def tags(self, repository: str) -> NoReturn:
        """See `Registry.tags`; raises RegistryError."""
        self.ping(repository)

    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> NoReturn:
        """See `Registry.referrers`; raises RegistryError."""
        self.ping(repository)


def _missing(repository: str, reference: str) -> RegistryError:
    name = f"{repository}{'@' if is_digest(reference) else ':'}{reference}"
    return RegistryError(f"{name} is not kept here, and with `--offline` no registry is asked")
