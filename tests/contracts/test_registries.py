"""Registry drivers against their contract: ours over HTTP, and one that keeps everything in files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.directory_registry import DirectoryRegistry
from img_core.images.push import push_image
from img_core.images.reference import Reference
from img_core.spec.registry import Registry, RegistryContext
from img_core.testing.contracts.registry import RegistryContract
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import make_image
from img_core.testing.results import DirectoryStore
from img_registry_oci._registry import OciRegistry


class TestOci(RegistryContract):
    registry_class = OciRegistry

    @pytest.fixture
    def domain(self) -> Iterator[str]:
        with FaultyRegistry() as healthy:
            yield healthy.address


class TestDirectory(RegistryContract):
    registry_class = DirectoryRegistry

    @pytest.fixture
    def domain(self) -> str:
        return f"{uuid.uuid4()}.example"


@pytest.mark.parametrize("kind", [OciRegistry, DirectoryRegistry])
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
