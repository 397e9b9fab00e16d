"""Registries: where images are pulled from and pushed to. One protocol for pull, push, login, caches and indexes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.values import Credentials, Descriptor, Digest

__all__ = ["Fetched", "Registries", "Registry", "RegistryContext", "Uploaded"]


@dataclass(frozen=True, slots=True)
class RegistryContext:
    """What a registry driver may use while it works.

    *environment* is the user's: proxies, and where configuration files are. *credentials* looks up who we are by ``(server, repository)``;
    it is asked at most once per repository, and only when a registry wants to know. *insecure* lists the registries (``host[:port]``,
    ``*``: all) for which plain HTTP and unverified TLS were asked. With *brief* nobody waits long for an answer: it would be of use, but
    one can do without.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    credentials: Callable[[str, str], Credentials | None] = field(
        default=lambda _server, _repository: None, repr=False, compare=False
    )
    insecure: frozenset[str] = frozenset()
    brief: bool = False


class Fetched(NamedTuple):
    """A manifest or an index as the registry has it."""

    content: bytes
    media_type: str  #: Content-Type, may be empty
    digest: Digest  #: computed from *content*


class Uploaded(Enum):
    """How a blob came to be in the repository."""

    EXISTED = "existed"
    MOUNTED = "mounted"
    SENT = "sent"


class Registry(ABC):
    """Speaks to registries, to any of them: a repository is always named whole and normalised (``docker.io/library/busybox``).

    One object serves one piece of work; its methods are called from several threads at once. Making one is cheap and uses no network.
    Whatever is read by digest is verified; nothing is kept on disk.

    Errors: `NotFoundError`, `CredentialsError`, `IntegrityError` (content is not what was promised), `RegistryError` for the rest, and
    `Canceled` for calls that wait when `close` is called.
    """

    name: ClassVar[str]
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON

    def __init__(self, context: RegistryContext, options: Mapping[str, Any] | None = None) -> None:
        self.context = context
        self.options = dict(options or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close all connections and end all waiting, in other threads, too. May be called twice."""

    @abstractmethod
    def ping(self, domain: str) -> None:
        """Check that the registry *domain* is there and accepts our credentials: what a login does before it is kept."""

    @abstractmethod
    def resolve(self, repository: str, reference: str) -> Digest | None:
        """Ask for the digest that *reference* (tag or digest) names now, without fetching it; None if the registry does not say.

        Cheap, and no pull in the eyes of registries that count those. Nothing is verified: use it to compare with what is known.
        """

    @abstractmethod
    def fetch_document(self, repository: str, reference: str) -> Fetched:
        """Fetch the manifest or index that *reference* (tag or digest) names; verified if it is a digest."""

    @abstractmethod
    def fetch_blob(
        self, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
    ) -> Iterator[bytes]:
        """Give the bytes of a blob from *start* on as they arrive, never more than ``descriptor.size``; goes on where it was cut.

        With *verify* (only with a *start* of 0) the digest is checked, too, after the last byte: an `IntegrityError` then means that
        everything given so far must be thrown away.
        """

    @abstractmethod
    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Uploaded:
        """Bring a blob into *repository*, sending it only if it is not there and cannot be mounted from the repository *mount_from*.

        *mount_from* is known to have had it; that may be *repository* itself.
        *read* gives the bytes from an offset on; it is called again to continue a cut transfer. The registry verifies the digest.
        """

    @abstractmethod
    def put_document(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        """Store a manifest or index under *reference* (tag or digest), after all that it names; return its digest."""

    def delete_document(self, repository: str, reference: str) -> None:
        """Delete what *reference* (tag or digest) names, with all other tags of it. Many registries do not allow that to everybody."""
        from img_core.spec.errors import Unsupported

        raise Unsupported(f"registry driver `{self.name}` deletes nothing")

    @abstractmethod
    def tags(self, repository: str) -> list[str]:
        """Return all tags of *repository*, in the registry's order."""

    @abstractmethod
    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests (signatures, bills of materials…) whose subject is *digest*, only those of *artifact_type* if given."""


class Registries(Protocol):
    """Makes registries of the driver that is configured, with our credentials and environment."""

    def __call__(self, *, insecure: Iterable[str] = (), brief: bool = False) -> Registry:
        """Return a registry, to be closed by who asked; see `RegistryContext`. Raises PluginError that says who switched it off."""
