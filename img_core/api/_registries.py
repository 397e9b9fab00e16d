"""The registry driver that commands use: the first of the configured order that is installed and switched on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from img_core.images.digests import is_digest
from img_core.spec.errors import RegistryError
from img_core.spec.registry import Registry, RegistryContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from img_core.plugins import Plugins
    from img_core.spec.values import Descriptor, Digest

__all__ = ["OfflineRegistry", "open_registry"]


class OfflineRegistry(Registry):
    """Asks nobody: whatever needs a registry raises RegistryError that names what it needs."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def ping(self, domain: str) -> NoReturn:
        """Raise RegistryError, as all that follow do."""
        raise RegistryError(f"with `--offline` {domain} is not asked")

    def resolve(self, repository: str, reference: str) -> NoReturn:
        raise _missing(repository, reference)

    def fetch_document(self, repository: str, reference: str) -> NoReturn:
        raise _missing(repository, reference)

    def fetch_blob(
        self, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
    ) -> Iterator[bytes]:
        raise _missing(repository, descriptor.digest)

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> NoReturn:
        self.ping(repository)

    def put_document(self, repository: str, reference: str, content: bytes, media_type: str) -> NoReturn:
        self.ping(repository)

    def tags(self, repository: str) -> NoReturn:
        self.ping(repository)

    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> NoReturn:
        self.ping(repository)


def _missing(repository: str, reference: str) -> RegistryError:
    name = f"{repository}{'@' if is_digest(reference) else ':'}{reference}"
    return RegistryError(f"{name} is not kept here, and with `--offline` no registry is asked")


def open_registry(plugins: Plugins, context: RegistryContext) -> Registry:
    """Return a registry for one piece of work. Raises PluginError that says who switched the driver off."""
    made: Registry = plugins.make("registry", plugins.claiming("registry", lambda _driver: True), context)
    return made
