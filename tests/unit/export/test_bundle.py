"""Bundles: what is written is read back, and what strangers write is trusted only as far as digests go."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from img_core.archives.codecs import compressor
from img_core.archives.tar import TarReader, TarWriter
from img_core.archives.tar.member import CHARACTER, HARD_LINK, SYMLINK
from img_core.images import oci
from img_core.spec.errors import ArchiveError, ImgError, IntegrityError, NotFoundError
from img_core.spec.exporter import NamedImage
from img_core.spec.values import Descriptor, Platform
from img_core.testing.results import DirectoryStore, ReadyResult, Recorder, make_result
from img_lib_export.assemble import Packing, assemble
from img_lib_export.bundle import read_bundle, write_directory, write_tar
from img_lib_export.repack import uncompressed

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NAME = "docker.io/library/sample:latest"


@pytest.fixture
def empty(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "loaded")


def bundle(result: ReadyResult, *, docker: bool = True, names: tuple[str, ...] = (NAME,)) -> bytes:
    output = io.BytesIO()
    top = assemble(result, Packing(), Recorder()).top
    write_tar(output, [NamedImage(top, names)], result.store, docker=docker, platform=AMD64)
    return output.getvalue()


def zstd(data: bytes) -> bytes:
    packer = compressor("zstd")
    return packer.compress(data) + packer.flush()


def unpacked(data: bytes) -> dict[bytes, bytes]:
    reader = TarReader(io.BytesIO(data))
    return {member.name: b"".join(reader.chunks()) for member in reader if not member.name.endswith(b"/")}


def archive(
    files: Mapping[bytes, bytes], links: Mapping[bytes, bytes] | None = None, kind: bytes = SYMLINK
) -> io.BytesIO:
    output = io.BytesIO()
    writer = TarWriter(output.write)
    for name, content in files.items():
        writer.add(name, data=content)
    for name, target in (links or {}).items():
        writer.add(name, kind=kind, linkname=target)
    writer.finish()
    output.seek(0)
    return output


def old_save(result: ReadyResult, **changes: Any) -> dict[bytes, bytes]:
    """Return the files of a bundle as Docker wrote it before version 25."""
    image = result.images[0]
    config = oci.canonical_json(image.document)
    identifier = oci.digest(config)[7:]
    files = {f"{identifier}.json".encode(): config}
    layers = []
    for number, layer in enumerate(image.stored):
        path = f"{number:064x}/layer.tar"
        files[path.encode()] = b"".join(uncompressed(result.store, layer.descriptor))
        files[f"{number:064x}/VERSION".encode()] = b"1.0"
        layers.append(path)
    entry = {"Config": f"{identifier}.json", "RepoTags": ["sample:latest"], "Layers": layers, **changes}
    files[b"manifest.json"] = json.dumps([entry]).encode()
    files[b"repositories"] = b'{"sample":{"latest":"0"}}'
    return files


# ---------------------------------------------------------------------------------------------------------- writing


def test_same_image_gives_same_bytes(tmp_path: Path) -> None:
    assert bundle(make_result(tmp_path / "a")) == bundle(make_result(tmp_path / "b"))


def test_several_images_share_their_blobs(result: ReadyResult, empty: DirectoryStore) -> None:
    top = assemble(result, Packing(), Recorder()).top
    zstd = assemble(result, Packing(codec="zstd"), Recorder()).top
    output = io.BytesIO()
    images = [NamedImage(top, ("docker.io/library/a:1", "docker.io/library/b:2")), NamedImage(zstd, ())]
    write_tar(output, images, result.store, docker=True)
    files = unpacked(output.getvalue())
    assert [entry["RepoTags"] for entry in json.loads(files[b"manifest.json"])] == [["a:1", "b:2"], None]
    loaded = read_bundle(io.BytesIO(output.getvalue()), empty)
    assert [(image.names, image.descriptor.digest) for image in loaded] == [
        (("docker.io/library/a:1", "docker.io/library/b:2"), top.digest),
        ((), zstd.digest),
    ]


def test_index_names_one_platform_for_docker(tmp_path: Path, empty: DirectoryStore) -> None:
    result = make_result(tmp_path / "result", platforms=[AMD64, ARM64])
    files = unpacked(bundle(result))
    (entry,) = json.loads(files[b"manifest.json"])
    assert json.loads(files[entry["Config"].encode()])["architecture"] == "amd64"
    (image,) = read_bundle(io.BytesIO(bundle(result)), empty)
    assert image.descriptor.media_type == oci.OCI_INDEX


def test_platforms_that_are_not_here_are_left_out(tmp_path: Path, empty: DirectoryStore) -> None:
    result = make_result(tmp_path / "result", platforms=[AMD64, ARM64])
    assembled = assemble(result, Packing(), Recorder())
    result.store.path(assembled.images[1].layers[1].digest).unlink()
    output = io.BytesIO()
    write_tar(output, [NamedImage(assembled.top, (NAME,))], result.store, docker=True, platform=ARM64)
    (image,) = read_bundle(io.BytesIO(output.getvalue()), empty)
    assert image.descriptor.digest == assembled.top.digest
    assert oci.digest(empty.read(assembled.images[0].manifest.digest)) == assembled.images[0].manifest.digest
    with pytest.raises(NotFoundError):
        empty.read(assembled.images[1].manifest.digest)


def test_missing_layer_is_named_before_anything_is_written(result: ReadyResult) -> None:
    layer = result.images[0].stored[1].descriptor.digest
    result.store.path(layer).unlink()
    output = io.BytesIO()
    top = assemble(result, Packing(), Recorder()).top
    with pytest.raises(NotFoundError, match=layer):
        write_tar(output, [NamedImage(top)], result.store, docker=True)
    assert output.getvalue() == b""


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("docker", [True, False])
@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstd,
    ],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)
def test_round_trip(docker: bool, pack: Callable[[bytes], bytes], result: ReadyResult, empty: DirectoryStore) -> None:
    plain = bundle(result, docker=docker)
    (image,) = read_bundle(io.BytesIO(pack(plain)), empty)
    assert image.names == (NAME,)
    empty.tag(NAME, image.descriptor)
    wanted = {
        path.removeprefix(b"blobs/sha256/").decode(): content
        for path, content in unpacked(plain).items()
        if b"/" in path
    }
    found = empty.blobs()
    assert {name: found[name] for name in wanted} == wanted


def test_stream_may_come_in_small_pieces(result: ReadyResult, empty: DirectoryStore) -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 777))

    assert read_bundle(Dribble(gzip.compress(bundle(result))), empty)[0].names == (NAME,)


def test_directory_is_read(tmp_path: Path, result: ReadyResult, empty: DirectoryStore) -> None:
    top = assemble(result, Packing(), Recorder()).top
    write_directory(str(tmp_path / "layout"), [NamedImage(top, (NAME,))], result.store, docker=False)
    (image,) = read_bundle(tmp_path / "layout", empty)
    assert (image.names, image.descriptor.digest) == ((NAME,), top.digest)


def test_old_docker_save_is_read(result: ReadyResult, empty: DirectoryStore) -> None:
    (image,) = read_bundle(archive(old_save(result)), empty)
    assert image.names == (NAME,)
    empty.tag(NAME, image.descriptor)
    manifest = oci.parse_manifest(empty.read(image.descriptor.digest), name="manifest")
    assert manifest.config.digest == oci.digest(oci.canonical_json(result.images[0].document))
    assert [str(layer.digest) for layer in manifest.layers] == [layer.diff_id for layer in result.images[0].stored]
    assert {layer.media_type for layer in manifest.layers} == {oci.OCI_LAYER}


def test_old_docker_save_may_link_equal_layers(result: ReadyResult, empty: DirectoryStore) -> None:
    files = old_save(result)
    moved = f"{1:064x}/layer.tar".encode()
    files[b"elsewhere/layer.tar"] = files.pop(moved)
    (image,) = read_bundle(archive(files, {moved: b"../elsewhere/layer.tar"}), empty)
    assert len(oci.parse_manifest(empty.read(image.descriptor.digest), name="manifest").layers) == 2


def test_old_docker_save_may_hold_gzipped_layers(result: ReadyResult, empty: DirectoryStore) -> None:
    files = {
        name: gzip.compress(content) if name.endswith(b"layer.tar") else content
        for name, content in old_save(result).items()
    }
    (image,) = read_bundle(archive(files), empty)
    manifest = oci.parse_manifest(empty.read(image.descriptor.digest), name="manifest")
    assert {layer.media_type for layer in manifest.layers} == {oci.OCI_LAYER_GZIP}


def test_nameless_and_several_images(result: ReadyResult, empty: DirectoryStore) -> None:
    files = old_save(result)
    (entry,) = json.loads(files[b"manifest.json"])
    files[b"manifest.json"] = json.dumps([{**entry, "RepoTags": None}, {**entry, "RepoTags": ["b:1", "b:2"]}]).encode()
    loaded = read_bundle(archive(files), empty)
    assert [image.names for image in loaded] == [(), ("docker.io/library/b:1", "docker.io/library/b:2")]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes_is_read(kind: str, tmp_path: Path, result: ReadyResult, empty: DirectoryStore) -> None:
    (tmp_path / "in.tar").write_bytes(bundle(result, docker=False))
    target = tmp_path / "out"
    subprocess.run(
        ["skopeo", "copy", "--insecure-policy", f"oci-archive:{tmp_path}/in.tar", f"{kind}:{target}:example.org/a/b:1"],
        check=True,
        capture_output=True,
    )
    if kind == "oci":
        (image,) = read_bundle(target, empty)
    else:
        with target.open("rb") as file:
            (image,) = read_bundle(file, empty)
    assert image.names == ("example.org/a/b:1",)
    empty.tag("example.org/a/b:1", image.descriptor)


# ----------------------------------------------------------------------------------------------------- hostile input


def refused(data: io.BytesIO | Path, store: DirectoryStore, message: str) -> None:
    with pytest.raises(ImgError, match=message) as caught:
        read_bundle(data, store)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 1
    assert store.tags() == {}


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        (b"blobs/sha256/" + b"0" * 64, b"/etc/passwd", SYMLINK),
        (b"a/layer.tar", b"/etc/x.tar", SYMLINK),
        (b"a/layer.tar", b"../../x.tar", SYMLINK),
        (b"a/layer.tar", b"/etc/x.tar", HARD_LINK),
        (b"manifest.json", b"index.json", SYMLINK),
        (b"device", b"", CHARACTER),
    ],
)
def test_links_and_devices_are_refused(name: bytes, target: bytes, kind: bytes, empty: DirectoryStore) -> None:
    refused(archive({}, {name: target}, kind), empty, "in the bundle is a ")


@pytest.mark.parametrize("name", ["index.json", "blobs"])
def test_symlinks_in_a_directory_are_refused(
    name: str, tmp_path: Path, result: ReadyResult, empty: DirectoryStore
) -> None:
    layout = tmp_path / "layout"
    top = assemble(result, Packing(), Recorder()).top
    write_directory(str(layout), [NamedImage(top, (NAME,))], result.store, docker=False)
    (layout / name).rename(tmp_path / "moved")
    (layout / name).symlink_to(tmp_path / "moved")
    refused(layout, empty, "cannot read")


def test_fifo_in_a_directory_does_not_hang(tmp_path: Path, empty: DirectoryStore) -> None:
    (tmp_path / "layout").mkdir()
    os.mkfifo(tmp_path / "layout" / "index.json")
    refused(tmp_path / "layout", empty, "is not a regular file")


def test_names_that_climb_are_refused(empty: DirectoryStore) -> None:
    refused(archive({b"../index.json": b"{}"}), empty, r"contains `\.\.`")


def test_blob_under_a_wrong_name_is_refused(result: ReadyResult, empty: DirectoryStore) -> None:
    for path, content in unpacked(bundle(result)).items():
        if path.startswith(b"blobs/"):
            files = {**unpacked(bundle(result)), path: content[:-1] + bytes([content[-1] ^ 1])}
            refused(archive(files), empty, "digest|instead of")


def test_repeated_member_is_refused(empty: DirectoryStore) -> None:
    output = io.BytesIO()
    writer = TarWriter(output.write)
    for _ in range(2):
        writer.add(b"index.json", data=b"{}")
    writer.finish()
    refused(io.BytesIO(output.getvalue()), empty, "appears twice")


def test_wrong_diff_id_is_refused(result: ReadyResult, empty: DirectoryStore) -> None:
    files = old_save(result)
    files[f"{0:064x}/layer.tar".encode()] = files[f"{1:064x}/layer.tar".encode()]
    refused(archive(files), empty, "its config says")


def test_wrong_diff_id_of_a_compressed_layer_is_refused(result: ReadyResult, empty: DirectoryStore) -> None:
    image = result.images[0]
    swapped = {**image.document, "rootfs": {"type": "layers", "diff_ids": [image.stored[0].diff_id] * 2}}
    config = oci.canonical_json(swapped)
    manifest = oci.canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": oci.descriptor_document(Descriptor(oci.OCI_CONFIG, oci.digest(config), len(config))),
            "layers": [oci.descriptor_document(layer.descriptor) for layer in image.stored],
        }
    )
    refused(layout([config, *blobs(result)], manifest), empty, "its config says")


def blobs(result: ReadyResult) -> list[bytes]:
    return list(result.store.blobs().values())


def layout(contents: list[bytes], manifest: bytes, **changes: Any) -> io.BytesIO:
    entry = {"mediaType": oci.OCI_MANIFEST, "digest": oci.digest(manifest), "size": len(manifest), **changes}
    index = oci.canonical_json({"schemaVersion": 2, "manifests": [entry]})
    files = {b"blobs/sha256/" + oci.digest(content)[7:].encode(): content for content in [*contents, manifest]}
    return archive({**files, b"index.json": index, b"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'})


def test_manifest_of_another_size_is_refused(result: ReadyResult, empty: DirectoryStore) -> None:
    manifest = result.store.read(assemble(result, Packing(), Recorder()).top.digest)
    refused(layout(blobs(result), manifest, size=3), empty, "its descriptor says 3")


def test_missing_parts_are_named(result: ReadyResult, empty: DirectoryStore) -> None:
    full = unpacked(bundle(result))
    for path in [path for path in full if path.startswith(b"blobs/")]:
        rest = {name: content for name, content in full.items() if name != path}
        refused(archive(rest), empty, "lacks .*" + path.decode()[-64:])


def test_indexes_in_indexes_end_somewhere(result: ReadyResult, empty: DirectoryStore) -> None:
    top = assemble(result, Packing(), Recorder()).top
    contents, descriptor = blobs(result), top
    for _ in range(6):
        content = oci.canonical_json({"schemaVersion": 2, "manifests": [oci.descriptor_document(descriptor)]})
        contents.append(content)
        descriptor = Descriptor(oci.OCI_INDEX, oci.digest(content), len(content))
    data = layout(contents[:-1], contents[-1], mediaType=oci.OCI_INDEX)
    refused(data, empty, "nested too deeply")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no images"),
        ({b"repositories": b"{}"}, "older than 1.10"),
        ({b"index.json": b"[]"}, "not a JSON object"),
        ({b"index.json": b"{" * 100_000}, "valid JSON|nested"),
        ({b"manifest.json": b"{}"}, "not a list"),
        ({b"manifest.json": b'[{"Layers":[]}]'}, "without a config"),
        ({b"manifest.json": b'[{"Config":"x","Layers":[3]}]'}, "malformed"),
        ({b"manifest.json": b'[{"Config":"x","RepoTags":["UPPER"]}]'}, "bad image name"),
        (
            {b"index.json": b'{"schemaVersion":2,"manifests":[]}', b"oci-layout": b'{"imageLayoutVersion":"2"}'},
            "version",
        ),
        ({b"blobs/sha256/xyz": b"z"}, "not named by a sha256 digest"),
    ],
)
def test_nonsense_is_one_line(files: dict[bytes, bytes], message: str, empty: DirectoryStore) -> None:
    refused(archive(files), empty, message)


def test_too_many_small_files_are_refused(empty: DirectoryStore) -> None:
    refused(archive({b"%d" % number: b"{" + b" " * 4_000_000 for number in range(18)}), empty, "too many small files")


def test_archive_bomb_is_refused(empty: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img_lib_export.bundle._read._FREE_SIZE", 1 << 20)
    zeros = archive({b"zeros": bytes(64 << 20)}).getvalue()
    refused(io.BytesIO(zstd(zeros)), empty, "decompress to more than")


def test_random_damage_never_loads_something_else(result: ReadyResult, tmp_path: Path) -> None:
    good = bundle(result)
    generator = random.Random(7)
    wanted = {oci.digest(content) for content in unpacked(good).values()}
    for number in range(200):
        damaged = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        store = DirectoryStore(tmp_path / f"store-{number}")
        try:
            loaded = read_bundle(io.BytesIO(bytes(damaged)), store)
        except (ArchiveError, IntegrityError):
            continue
        assert {image.descriptor.digest for image in loaded} <= wanted


def test_truncated_bundle_is_refused(result: ReadyResult, tmp_path: Path) -> None:
    good = gzip.compress(bundle(result))
    for size in range(1, len(good), len(good) // 40):
        with pytest.raises(ImgError):
            read_bundle(io.BytesIO(good[:size]), DirectoryStore(tmp_path / f"store-{size}"))
