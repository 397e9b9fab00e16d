"""Documents of a result: form, digests, compression, times."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from img_core.archives.codecs import detect
from img_core.archives.tar import TarReader
from img_core.archives.tar.pipeline import Serial
from img_core.images import oci
from img_core.spec.errors import ArchiveError, Canceled, IntegrityError, UsageError
from img_core.spec.exporter import Attestation, BuiltLayer
from img_core.spec.values import Descriptor, Platform
from img_core.testing.results import ReadyImage, ReadyResult, Recorder, make_result
from img_lib_export.assemble import PACKING_PATTERNS, PACKING_PROPERTIES, Assembled, Packing, assemble, image_metadata
from img_lib_export.repack import uncompressed

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def packed(result: ReadyResult, **options: Any) -> Assembled:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return assemble(result, Packing.from_options(given), Recorder())


def document(result: ReadyResult, descriptor: Descriptor) -> dict[str, Any]:
    return dict(json.loads(result.store.read(descriptor.digest)))


def codecs(result: ReadyResult, assembled: Assembled) -> list[str]:
    """Tell from the bytes how each layer is compressed."""
    found = []
    for layer in assembled.images[0].layers:
        with result.store.open(layer.digest) as file:
            found.append(detect(file.read(6)) or "uncompressed")
    return found


@pytest.fixture
def result(tmp_path: Path) -> ReadyResult:
    return make_result(tmp_path)


def test_documents_are_canonical_and_refer_to_each_other(result: ReadyResult) -> None:
    assembled = packed(result)
    (image,) = assembled.images
    content = result.store.read(assembled.top.digest)
    assert oci.canonical_json(json.loads(content)) == content
    manifest = oci.parse_manifest(content, name="manifest", media_type=oci.OCI_MANIFEST)
    config = oci.parse_config(result.store.read(manifest.config.digest), name="config")
    oci.check_layers(manifest, config, name="image")
    assert manifest.config.digest == image.config.digest
    assert assembled.top.size == len(content)
    assert assembled.top.platform == AMD64
    assert config.document["config"]["Labels"] == {"sample": "yes"}


def test_layers_keep_their_bytes_by_default(result: ReadyResult) -> None:
    assert [layer.digest for layer in packed(result).images[0].layers] == [
        layer.descriptor.digest for layer in result.images[0].stored
    ]


def test_image_without_layers_has_empty_lists(tmp_path: Path, result: ReadyResult) -> None:
    image = result.images[0]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": None}, "history": None}
    empty = ReadyResult([ReadyImage(image.platform, image.directory, {}, (), config)], (), result.store)
    assembled = packed(empty)
    assert document(empty, assembled.top)["layers"] == []
    found = document(empty, assembled.images[0].config)
    assert found["rootfs"] == {"type": "layers", "diff_ids": []}
    assert found["history"] == []


def test_more_layers_than_a_manifest_may_have_are_refused_in_one_line(
    result: ReadyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oci, "ENTRY_LIMIT", len(result.images[0].layers()) - 1)
    with pytest.raises(UsageError, match=r"^the image has \d+ layers; more than \d+ are read by nobody$"):
        packed(result)


def test_docker_media_types(result: ReadyResult) -> None:
    manifest = document(result, packed(result, oci_mediatypes=False).top)
    assert manifest["mediaType"] == oci.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == oci.DOCKER_CONFIG
    assert {layer["mediaType"] for layer in manifest["layers"]} == {oci.DOCKER_LAYER_GZIP}


def test_several_platforms_become_an_index(tmp_path: Path) -> None:
    result = make_result(tmp_path, platforms=[AMD64, ARM64])
    assembled = packed(result)
    index = oci.parse_index(result.store.read(assembled.top.digest), name="index", media_type=oci.OCI_INDEX)
    assert [manifest.platform for manifest in index.manifests] == [AMD64, ARM64]
    docker = packed(result, oci_mediatypes=False)
    assert docker.top.media_type == oci.DOCKER_INDEX
    assert "containerimage.config.digest" not in image_metadata(assembled, [])


def test_one_platform_becomes_an_index_on_request(tmp_path: Path) -> None:
    result = make_result(tmp_path, as_index=True)
    assembled = packed(result)
    index = oci.parse_index(result.store.read(assembled.top.digest), name="index", media_type=oci.OCI_INDEX)
    assert [manifest.digest for manifest in index.manifests] == [assembled.images[0].manifest.digest]
    assert "containerimage.config.digest" not in image_metadata(assembled, [])


@pytest.mark.parametrize("codec", ["uncompressed", "gzip", "zstd"])
def test_compression_concerns_layers_of_the_build_unless_forced(codec: str, tmp_path: Path) -> None:
    stored = "zstd" if codec == "gzip" else "gzip"
    result = make_result(tmp_path, codec=stored)
    assert codecs(result, packed(result, compression=codec)) == [stored, codec]
    forced = packed(result, compression=codec, force_compression=True)
    assert codecs(result, forced) == [codec, codec]
    diff_ids = document(result, forced.images[0].config)["rootfs"]["diff_ids"]
    assert diff_ids == [layer.diff_id for layer in result.images[0].stored]
    suffix = "" if codec == "uncompressed" else "+" + codec
    assert {layer.media_type for layer in forced.images[0].layers} == {oci.OCI_LAYER + suffix}


def test_level_changes_the_size_of_own_layers_only(result: ReadyResult) -> None:
    small, large = packed(result, compression_level=9).images[0], packed(result, compression_level=0).images[0]
    assert small.layers[0] == large.layers[0]
    assert small.layers[1].size < large.layers[1].size


def test_repacking_is_deterministic(tmp_path: Path) -> None:
    tops = [packed(make_result(tmp_path / name), compression="zstd", compression_level=5).top for name in "ab"]
    assert tops[0] == tops[1]


def test_times_are_clamped_except_in_the_base(tmp_path: Path) -> None:
    result = make_result(tmp_path, source_date_epoch=1_000_000_000)
    plain, rewritten = packed(result), packed(result, rewrite_timestamp=True)
    assert plain.images[0].layers[0] == rewritten.images[0].layers[0]
    reader = TarReader(Serial(uncompressed(result.store, rewritten.images[0].layers[1])))
    assert {member.mtime_ns for member in reader} == {1_000_000_000 * 10**9}
    hashed = hashlib.sha256(b"".join(uncompressed(result.store, rewritten.images[0].layers[1]))).hexdigest()
    diff_ids = document(result, rewritten.images[0].config)["rootfs"]["diff_ids"]
    assert diff_ids == [result.images[0].stored[0].diff_id, f"sha256:{hashed}"]


def test_only_times_change_when_they_are_clamped(tmp_path: Path) -> None:
    result = make_result(tmp_path)

    def entries(layer: Descriptor) -> list[tuple[Any, ...]]:
        reader = TarReader(Serial(uncompressed(result.store, layer)))
        return [(m.name, m.type, m.mode, m.uid, m.gid, m.linkname, m.xattrs, b"".join(reader.chunks())) for m in reader]

    rewritten = packed(result, rewrite_timestamp=True, source_date_epoch=5).images[0].layers[1]
    assert entries(rewritten) == entries(result.images[0].stored[1].descriptor)


def test_damaged_layer_is_noticed_when_it_is_repacked(result: ReadyResult) -> None:
    path = result.store.path(result.images[0].stored[0].descriptor.digest)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = set(result.store.blobs())
    with pytest.raises((IntegrityError, ArchiveError)):
        packed(result, compression="zstd", force_compression=True)
    assert set(result.store.blobs()) == before


def test_wrong_diff_id_is_noticed_when_a_layer_is_repacked(result: ReadyResult) -> None:
    image = result.images[0]
    wrong = tuple(BuiltLayer(layer.descriptor, image.stored[0].diff_id, layer.created) for layer in image.stored)
    config = {**image.document, "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in wrong]}}
    lying = ReadyResult([ReadyImage(image.platform, image.directory, {}, wrong, config)], (), result.store)
    with pytest.raises(IntegrityError, match="its image promises"):
        packed(lying, compression="zstd")


def test_config_that_contradicts_the_layers_is_refused(result: ReadyResult) -> None:
    image = result.images[0]
    lying = ReadyResult(
        [ReadyImage(image.platform, image.directory, {}, image.stored[:1], image.document)], (), result.store
    )
    with pytest.raises(IntegrityError, match="diff ids"):
        packed(lying)


def test_cancel_while_repacking_keeps_nothing(result: ReadyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img_lib_export.ticker._BYTES", 1)
    before = set(result.store.blobs())
    with pytest.raises(Canceled):
        assemble(result, Packing(codec="zstd", force=True), Recorder(cancel_at=2))
    assert set(result.store.blobs()) == before


def test_annotations_go_where_they_belong(tmp_path: Path) -> None:
    result = make_result(tmp_path, platforms=[AMD64, ARM64])
    assembled = packed(
        result,
        **{"annotation.a": "1", "annotation-index.b": "2", "annotation-manifest-descriptor.c": "3"},
    )
    index = document(result, assembled.top)
    assert index["annotations"] == {"b": "2"}
    assert index["manifests"][0]["annotations"] == {"c": "3"}
    assert document(result, assembled.images[0].manifest)["annotations"] == {"a": "1"}


def test_annotations_of_one_platform_win_there_over_those_of_all(tmp_path: Path) -> None:
    result = make_result(tmp_path, platforms=[AMD64, ARM64])
    options = {
        "annotation[linux/arm64].a": "arm", "annotation.a": "all", "annotation-manifest[linux/amd64/v1].b": "amd",
        "annotation-manifest-descriptor[linux/aarch64].c.d": "1", "annotation-manifest[linux/s390x].e": "nowhere",
        "annotation-index[linux/arm64].f": "2", "annotation-index-descriptor[linux/amd64].g[h].i": "3",
    }  # fmt: skip
    assembled = packed(result, **options)
    index = document(result, assembled.top)
    assert index["annotations"] == {"f": "2"}
    assert assembled.top.annotations == {"g[h].i": "3"}
    assert [manifest.get("annotations") for manifest in index["manifests"]] == [None, {"c.d": "1"}]
    told = [document(result, image.manifest)["annotations"] for image in assembled.images]
    assert told == [{"a": "all", "b": "amd"}, {"a": "arm"}]


def test_an_annotation_of_what_is_no_platform_is_refused() -> None:
    with pytest.raises(UsageError, match=r"`annotation\[linux/arm64/x/y/z\]\.a`"):
        Packing.from_options({"annotation[linux/arm64/x/y/z].a": "1"})


def test_index_annotations_need_an_index(result: ReadyResult) -> None:
    with pytest.raises(UsageError, match=r"^index annotations not supported for single platform export$"):
        packed(result, **{"annotation-index.b": "2"})


def test_gzip_level_is_bounded() -> None:
    with pytest.raises(UsageError, match="between 0 and 9"):
        Packing.from_options({"compression": "gzip", "compression-level": 22})


@pytest.mark.parametrize(
    ("option", "valid"),
    [
        ({"compression": "lz9"}, False),
        ({"compression": "zstd", "compression-level": 22}, True),
        ({"annotation-index.a.b": "x"}, True),
        ({"annotation[linux/arm64].a.b": "x"}, True),
        ({"annotation-manifest-descriptor[linux/arm/v7].a": "x"}, True),
        ({"annotation[].a": "x"}, False),
        ({"annotation-nowhere.a": "x"}, False),
        ({"annotations": "x"}, False),
    ],
)
def test_schema_of_the_shared_options(option: dict[str, Any], valid: bool) -> None:
    from jsonschema import Draft202012Validator

    schema = {
        "properties": PACKING_PROPERTIES,
        "patternProperties": PACKING_PATTERNS,
        "additionalProperties": False,
    }
    assert Draft202012Validator(schema).is_valid(option) is valid


SUBJECTS = {
    "docker.io/library/busybox:1": "pkg:docker/busybox@1?platform=linux%2Famd64",
    "docker.io/org/app:1": "pkg:docker/org/app@1?platform=linux%2Famd64",
    "127.0.0.1:5443/specs/at:1": "pkg:docker/127.0.0.1%3A5443/specs/at@1?platform=linux%2Famd64",
    "example.org/app": "pkg:docker/example.org/app@latest?platform=linux%2Famd64",
}


@pytest.mark.parametrize("name", [*SUBJECTS, ""])
def test_statements_are_about_the_image_by_its_name(result: ReadyResult, name: str) -> None:
    plain = packed(result)
    attested = replace(
        result,
        images=[replace(image, attestations=[Attestation("a:b", {"x": 1})]) for image in result.images],
        names=(),
    )
    assembled = assemble(attested, Packing.from_options({"name": name} if name else {}), Recorder())
    assert assembled.images == plain.images
    image, entry = document(result, assembled.top)["manifests"]
    assert image["digest"] == plain.top.digest
    (layer,) = document(result, Descriptor("", entry["digest"], 0))["layers"]
    (subject,) = document(result, Descriptor("", layer["digest"], 0))["subject"]
    assert subject == {
        "name": SUBJECTS.get(name, "_"),
        "digest": {"sha256": plain.top.digest.removeprefix("sha256:")},
    }


def test_each_platform_has_its_statements_behind_all_images(tmp_path: Path) -> None:
    result = make_result(tmp_path, platforms=[AMD64, ARM64])
    first, second = result.images
    attested = replace(result, images=[first, replace(second, attestations=[Attestation("a:b", {})] * 2)])
    *images, entry = document(result, assemble(attested, Packing(), Recorder()).top)["manifests"]
    assert [image["platform"]["architecture"] for image in images] == ["amd64", "arm64"]
    assert entry["annotations"]["vnd.docker.reference.digest"] == images[1]["digest"]
    assert len(document(result, Descriptor("", entry["digest"], 0))["layers"]) == 2
