"""Names and ids of stored images."""

from __future__ import annotations

from pathlib import Path

import pytest

from img_core.images import oci
from img_core.images.kept import AmbiguousId, find_image
from img_core.spec.errors import UsageError
from img_core.spec.values import Descriptor
from img_core.store import Store


def put_image(store: Store, number: int = 0, algorithm: str = "sha256") -> Descriptor:
    """Keep an image without layers."""
    config = store.put(oci.canonical_json({"rootfs": {"type": "layers", "diff_ids": []}}), oci.OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": oci.descriptor_document(config),
        "layers": [],
        "annotations": {"number": str(number)},
    }
    content = oci.canonical_json(document)
    return store.put(content, oci.OCI_MANIFEST, digest=oci.digest(content, algorithm))


def test_a_cut_id_of_two_images_is_refused_with_both(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        seen: dict[str, Descriptor] = {}
        for number in range(5000):
            image = put_image(store, number)
            if (start := image.digest[7:11]) in seen:
                break
            seen[start] = image
        other = seen[start]
        store.keep(image)
        store.keep(other)
        with pytest.raises(AmbiguousId) as caught:
            find_image(store.images, start)
        assert caught.value.hint is not None
        assert image.digest in caught.value.hint
        assert other.digest in caught.value.hint
        for wanted in (image, other):
            found = find_image(store.images, wanted.digest[7:27])
            assert found is not None
            assert found.descriptor.digest == wanted.digest


def test_names_win_over_cut_ids_and_whole_ids_over_names(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        one, two = put_image(store, 1), put_image(store, 2)
        store.keep(two)
        store.tag(f"docker.io/library/{two.digest[7:15]}:latest", one)
        store.tag(f"docker.io/library/{two.digest}", one)
        for text, digest in ((two.digest[7:15], one.digest), (two.digest[7:16], two.digest), (two.digest, two.digest)):
            found = find_image(store.images, text)
            assert found is not None
            assert found.descriptor.digest == digest, text
        assert find_image(store.images, two.digest[7:10]) is None, "three digits are too few"


def test_a_name_with_a_digest_is_that_of_its_image(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        one, two = put_image(store, 1), put_image(store, 2)
        with pytest.raises(UsageError):
            store.tag(f"docker.io/library/x@{one.digest}", two)
        store.tag("docker.io/library/x:1", two)
        assert find_image(store.images, f"x@{one.digest}") is None
        found = find_image(store.images, f"x@{two.digest}")
        assert found is not None
        assert found.name == "docker.io/library/x:1"


def test_an_image_without_a_name_is_kept_once_until_it_has_one(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        one, two = put_image(store, 1), put_image(store, 2)
        store.keep(one)
        store.keep(one)
        assert [image.is_untagged for image in store.images.list()] == [True]
        store.tag("docker.io/library/x:1", one)
        store.keep(one)
        assert [image.name for image in store.images.list()] == ["docker.io/library/x:1"]
        store.tag("docker.io/library/x:1", two)
        assert [(image.name, image.replaced) for image in store.images.list()] == [
            ("docker.io/library/x:1", False),
            (one.digest, True),
        ]
        store.keep(one)
        assert [image.replaced for image in store.images.list()] == [False, False]


def test_images_without_names_are_found_again_after_damage(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        one = put_image(store, 1)
        store.keep(one)
    for suffix in ("", "-wal"):
        Path(f"{tmp_path}/img.db{suffix}").write_bytes(b"damaged" * 1000)
    with Store(str(tmp_path)) as store:
        assert [image.name for image in store.images.list()] == [one.digest]


def test_an_id_by_sha512_is_found_whole_and_cut(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store:
        image = put_image(store, 1, "sha512")
        store.keep(image)
        digits = image.digest.partition(":")[2]
        for text in (image.digest, image.digest[:20], digits[:12], digits):
            found = find_image(store.images, text)
            assert found is not None
            assert found.descriptor.digest == image.digest, text
        assert find_image(store.images, f"sha256:{digits[:12]}") is None
