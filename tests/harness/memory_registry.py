"""A registry driver that is nothing but memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from img_core.images import oci
from img_core.spec.errors import IntegrityError, NotFoundError
from img_core.spec.registry import Fetched, Registry, Uploaded
from img_core.spec.values import Descriptor, Digest

__all__ = ["MemoryRegistry"]


class MemoryRegistry(Registry):
    """Keeps everything in this process, for all objects."""

    name = "memory"
    kept: ClassVar[dict[tuple[str, str], tuple[bytes, str]]] = {}  #: by repository and reference

    def close(self) -> None:
        pass

    def ping(self, domain: str) -> None:
        pass

    def resolve(self, repository: str, reference: str) -> Digest | None:
        return self.fetch_document(repository, reference).digest

    def fetch_document(self, repository: str, reference: str) -> Fetched:
        content, media_type = self._find(repository, reference)
        return Fetched(content, media_type, oci.digest(content))

    def fetch_blob(
        self, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
    ) -> Iterator[bytes]:
        content, _ = self._find(repository, descriptor.digest)
        if len(content) != descriptor.size:
            raise IntegrityError(f"{descriptor.digest} has {len(content)} bytes")
        yield content[start:]

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Uploaded:
        if (repository, descriptor.digest) in self.kept:
            return Uploaded.EXISTED
        if mount_from and (found := self.kept.get((mount_from, descriptor.digest))):
            self.kept[repository, descriptor.digest] = found
            return Uploaded.MOUNTED
        self.kept[repository, descriptor.digest] = b"".join(read(0)), descriptor.media_type
        return Uploaded.SENT

    def put_document(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        digest = oci.digest(content)
        self.kept[repository, reference] = self.kept[repository, digest] = content, media_type
        return digest

    def tags(self, repository: str) -> list[str]:
        return [name for place, name in self.kept if place == repository and ":" not in name]

    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> list[Descriptor]:
        return []

    def _find(self, repository: str, reference: str) -> tuple[bytes, str]:
        try:
            return self.kept[repository, reference]
        except KeyError:
            raise NotFoundError(f"{repository}: {reference}: not found") from None
