"""Where the documents and blobs of a cache are kept: what a backend has to provide, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

from img_core.spec.errors import ImgError
from img_core.spec.values import Descriptor, Digest

__all__ = ["ConflictError", "Place"]


class ConflictError(ImgError):
    """Somebody else published under the same tag since we read it."""


class Place(ABC):
    """Keeps manifests under tags, and blobs under their digests. Methods are called from several threads at once."""

    #: how people call it, e.g. ``registry.example/app:cache``
    title: str
    #: everybody sees all tags, so that writers can tell each other of segments; if not, `publish` raises ConflictError instead of replacing
    #: what another wrote since the last `read`
    lists_tags: bool = True

    @abstractmethod
    def read(self, tag: str) -> bytes:
        """Return the manifest that *tag* means now. Raises NotFoundError, or ImgError when the place cannot be reached."""

    @abstractmethod
    def document(self, digest: str) -> bytes:
        """Return a manifest by its digest, not verified. Raises NotFoundError, ImgError."""

    @abstractmethod
    def tags(self, prefix: str) -> list[str]:
        """Return all tags that begin with *prefix*, perhaps others, too; none if the place is missing. Raises ImgError."""

    @abstractmethod
    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Give a blob's bytes from *start* on. Raises NotFoundError, IntegrityError, ImgError."""

    @abstractmethod
    def holds(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is known to be there. Cheap; if in doubt it is not."""

    @abstractmethod
    def add(
        self, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]], *, origins: Sequence[str] = ()
    ) -> None:
        """Store a blob; *read* gives its bytes from an offset on, *origins* are repositories that have it. Raises ImgError."""

    @abstractmethod
    def publish(self, tag: str, manifest: bytes) -> Digest:
        """Let *tag* mean *manifest*, whose blobs are there, at once and durably. Raises ImgError; then it means what it did."""

    @abstractmethod
    def remove(self, tag: str) -> None:
        """Forget *tag*; harmless if there is none. Raises ImgError if the place does not allow it."""

    def note(self, digests: Iterable[Digest]) -> None:
        """Hear of blobs that a manifest in the place names: they are probably there."""

    def tidy(self, *, always: bool = False) -> None:
        """Remove what no tag needs, if that was asked for, here or when the place was made."""

    def close(self) -> None:
        """End connections."""
