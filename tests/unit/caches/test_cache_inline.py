"""A cache in the image itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cache_lab import Lab

from img_cache_inline._inline import InlineCache
from img_cache_registry._registry import RegistryCache
from img_core.images import oci
from img_core.spec.cache import CacheContext, CacheLayer, CacheRecord
from img_core.spec.errors import UsageError
from img_core.spec.exporter import BuiltLayer
from img_core.spec.registry import Registry
from img_core.spec.values import Descriptor, DiffId, Platform
from img_core.testing.faulty_registry import FaultyRegistry
from img_core.testing.images import SmallImage, make_image, make_index
from img_core.testing.results import DirectoryStore, ReadyImage, host


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


def no_registries(*, insecure: Iterable[str] = (), brief: bool = False) -> Registry:
    raise AssertionError("what travels in an image needs no registry")


def backend(tmp_path: Path) -> InlineCache:
    made = InlineCache(CacheContext(host(tmp_path / "host"), DirectoryStore(tmp_path / "store"), no_registries), {})
    made.check(export=True)
    return made


def carrying(tmp_path: Path, platform: Platform) -> tuple[SmallImage, list[CacheRecord]]:
    """Return an image of *platform* that carries the records of its layers, and of one that it has not."""
    files = [{"below": b"1"}, {f"for-{platform.architecture}": b"2"}]
    plain = make_image(files, platform=platform)
    assert plain.config
    config = json.loads(plain.blobs[plain.config.digest])
    layers = [
        CacheLayer(item, diff_id, 5.0) for item, diff_id in zip(plain.layers, config["rootfs"]["diff_ids"], strict=True)
    ]
    foreign = replace(layers[0], diff_id=DiffId("sha256:" + "0" * 64))
    name = platform.architecture
    records = [
        CacheRecord(f"one {name}".replace(" ", "-"), "d", "i1", "base", tuple(layers), created=5.0, last=5.0),
        CacheRecord(f"two-{name}", "d", "i2", "base", (foreign,), created=5.0, last=5.0, seconds=3.0),
        CacheRecord(f"three-{name}", "d", "i3", "base", None, created=5.0, last=5.0),
    ]
    stored = tuple(BuiltLayer(layer.descriptor, layer.diff_id, "") for layer in layers)
    image = ReadyImage(platform, tmp_path, {}, stored, {})
    extra = backend(tmp_path).image_config(image, records)
    expected = [records[0], replace(records[1], layers=None, seconds=0.0), records[2]]
    return with_config(plain, {**config, **extra}), expected


def with_config(image: SmallImage, config: dict[str, Any]) -> SmallImage:
    """Return *image* with another config."""
    assert image.config
    content = json.dumps(config).encode()
    described = Descriptor(image.config.media_type, oci.digest(content), len(content))
    manifest = json.loads(image.content)
    manifest["config"] = oci.descriptor_document(described)
    top = json.dumps(manifest).encode()
    blobs = {item.digest: image.blobs[item.digest] for item in image.layers}
    blobs |= {described.digest: content, oci.digest(top): top}
    return SmallImage(replace(image.top, digest=oci.digest(top), size=len(top)), blobs, image.layers, described)


def test_an_image_gives_back_what_it_carries(registry: FaultyRegistry, tmp_path: Path) -> None:
    image, records = carrying(tmp_path, Platform("linux", "amd64"))
    registry.add("app", "latest", image)
    assert image.config
    loaded = Lab(RegistryCache, tmp_path).load(ref=f"{registry.address}/app")
    assert (set(loaded.records), loaded.warnings) == (set(records), ())
    assert [str(item) for item in registry.asked()] == [
        "GET /v2/app/manifests/latest",
        f"GET /v2/app/blobs/{image.config.digest}",
    ]


def test_an_index_gives_back_what_all_platforms_carry(registry: FaultyRegistry, tmp_path: Path) -> None:
    images, records = [], []
    for architecture in ("amd64", "arm64"):
        image, carried = carrying(tmp_path, Platform("linux", architecture))
        images.append(image)
        records += carried
    registry.add("app", "latest", make_index(images))
    loaded = Lab(RegistryCache, tmp_path).load(ref=f"{registry.address}/app")
    assert (set(loaded.records), loaded.warnings) == (set(records), ())


def test_equal_builds_carry_equal_bytes(tmp_path: Path) -> None:
    first, _ = carrying(tmp_path / "a", Platform("linux", "amd64"))
    second, _ = carrying(tmp_path / "b", Platform("linux", "amd64"))
    assert first.top.digest == second.top.digest


def test_an_import_needs_the_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        backend(tmp_path).check(export=False)
    assert "type=registry,ref=IMAGE" in (caught.value.hint or "")
