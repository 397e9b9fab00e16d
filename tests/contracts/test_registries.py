"""Registry drivers against their contract: ours over HTTP, and one that is nothing but memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from img_core.images import oci
from img_core.images.push import push_image
from img_core.images.reference import Reference
from img_core.spec.errors import IntegrityError, NotFoundError
from img_core.spec.registry import Fetched, Registry, RegistryContext, Uploaded
from img_core.spec.values import Descriptor, Digest
from img_core.testing.contracts.registry import RegistryContract
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image
from img_core.testing.results import DirectoryStore
from img_registry_oci._registry import OciRegistry


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


class TestOci(RegistryContract):
    registry_class = OciRegistry

    @pytest.fixture
    def domain(self) -> Iterator[str]:
        with FaultyRegistry() as healthy:
            yield healthy.address


class TestMemory(RegistryContract):
    registry_class = MemoryRegistry

    @pytest.fixture
    def domain(self) -> str:
        return f"{uuid.uuid4()}.example"


@pytest.mark.parametrize("kind", [OciRegistry, MemoryRegistry])
def test_a_whole_image_is_pushed_through_any_driver(kind: type[Registry], tmp_path: Path) -> None:
    image, store = make_image([{"a": b"1"}, {"b": b"2"}]), DirectoryStore(tmp_path / "store")
    for content in image.blobs.values():
        store.put(content, "")
    with FaultyRegistry() as healthy, kind(RegistryContext()) as registry:
        reference = Reference.parse(f"{healthy.address}/app:1")
        first, second = (push_image(reference, image.top, store, registry) for _ in range(2))
        assert (first.sent, second.existed) == (3, 3)
        assert registry.fetch_document(reference.name, "1").content == image.content
        for layer in image.layers:
            assert b"".join(registry.fetch_blob(reference.name, layer)) == image.blobs[layer.digest]
