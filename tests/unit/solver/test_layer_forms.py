"""Each layer is packed once in each form that an exporter asks for, whatever was built before, and never made from another form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from solver_lab import PLATFORMS, Lab, World

from img_core.archives import tar
from img_core.archives.codecs import compressor, decompressor, detect
from img_core.images import oci
from img_core.spec.exporter import Exporter, LayerForm
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp, Vertex, WriteFile
from img_core.spec.host import Host
from img_core.spec.values import Digest
from img_core.testing.results import Recorder
from img_exporter_image._image import ImageExporter
from img_exporter_tar._tar import TarExporter
from img_lib_export import repack

HOST = Host(mapping="single", state_directory="/nowhere", run_directory="/nowhere")
BASE = Vertex(SourceOp("docker-image", "one"), (), PLATFORMS[0])
RUN = Vertex(RunOp(("x",)), (BASE,))
LINKED = Vertex(FileOp((WriteFile("f", b"1", "/w"),), has_base=False))
ROOT = Vertex(MergeOp(), (RUN, LINKED))
BASE_LAYERS = 2
OWN_LAYERS = 2

#: Options of an exporter, and how its own layers begin.
FORMS: dict[str, tuple[dict[str, Any], str]] = {  # Any: JSON
    "default": ({}, "gzip"),
    "gzip": ({"compression": "gzip"}, "gzip"),
    "gzip 9": ({"compression": "gzip", "compression-level": 9}, "gzip"),
    "level alone": ({"compression-level": 0}, "gzip"),
    "zstd": ({"compression": "zstd"}, "zstd"),
    "zstd 19": ({"compression": "zstd", "compression-level": 19}, "zstd"),
    "uncompressed": ({"compression": "uncompressed"}, "uncompressed"),
    "docker": ({"compression": "zstd", "oci-mediatypes": False}, "zstd"),
}


def digest_of(stream: bytes, compression: str, level: int | None) -> str:
    """Return the digest of *stream* in a form."""
    packer = compressor(compression, level)
    return oci.digest(packer.compress(stream) + packer.flush())


class Packer:
    """Builds in one state directory and counts how often a layer is packed."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.lab = Lab(directory, patch)
        self.packed = 0
        write_layer, again = tar.write_layer, repack.repack

        def write(*args: Any, **options: Any) -> Any:  # Any: as that of the original
            self.packed += 1
            return write_layer(*args, **options)

        def pack_again(*args: Any, **options: Any) -> Any:
            self.packed += 100
            return again(*args, **options)

        patch.setattr(tar, "write_layer", write)
        patch.setattr(repack, "repack", pack_again)

    def build(self, *wanted: dict[str, Any]) -> list[list[Digest]]:
        """Build for exporters with the options *wanted*; return the layers that each one got."""
        self.packed = 0
        exporters = [ImageExporter(HOST, options) for options in wanted]
        return [self._layers(metadata) for metadata in self.export(*exporters)]

    def export(self, *exporters: Exporter) -> list[dict[str, Any]]:
        """Build and export as `img_core.api` does; return the metadata."""
        forms = tuple(dict.fromkeys(item.layer_form for item in exporters if item.needs_layers))
        plan = Plan((PlannedImage(PLATFORMS[0], ROOT, {"architecture": "amd64", "os": "linux"}, ()),))
        with self.lab.solver(World(), plan, layer_forms=forms) as (solver, _):
            outcome = solver.solve()
            return [dict(item.export(outcome.wanted_by(item), Recorder())) for item in exporters]

    def _layers(self, metadata: dict[str, Any]) -> list[Digest]:
        document = json.loads(self.lab.store.read(metadata["containerimage.digest"]))
        return [layer["digest"] for layer in document["layers"]]

    def streams(self, layers: list[Digest]) -> list[bytes]:
        """Return the tar streams of the layers that steps made."""
        streams = []
        for digest in layers[BASE_LAYERS:]:
            unpacked = decompressor(codec) if (codec := self.compression(digest)) != "uncompressed" else None
            with self.lab.store.open(digest) as file:
                data = file.read()
            streams.append(b"".join(unpacked.feed(data)) if unpacked else data)
        return streams

    def compression(self, digest: Digest) -> str:
        """Tell from its bytes how a layer is compressed."""
        with self.lab.store.open(digest) as file:
            return detect(file.read(6)) or "uncompressed"


@pytest.fixture
def packer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packer]:
    """Give a state directory with nothing in it."""
    made = Packer(tmp_path / "one", monkeypatch)
    yield made
    made.lab.close()


@pytest.mark.parametrize(("options", "compression"), FORMS.values(), ids=FORMS)
def test_layers_are_packed_once_in_the_form_that_was_asked_for(
    packer: Packer, options: dict[str, Any], compression: str
) -> None:
    (layers,) = packer.build(options)
    own = layers[BASE_LAYERS:]
    assert [packer.compression(layer) for layer in own] == [compression] * OWN_LAYERS
    assert packer.packed == OWN_LAYERS


@pytest.mark.parametrize("before", FORMS)
def test_the_form_does_not_depend_on_what_was_built_before(packer: Packer, before: str) -> None:
    streams = packer.streams(packer.build(FORMS[before][0])[0])
    for options, compression in FORMS.values():
        (layers,) = packer.build(options)
        level = options.get("compression-level")
        assert layers[BASE_LAYERS:] == [digest_of(stream, compression, level) for stream in streams], options


@pytest.mark.parametrize("name", [name for name, (options, _) in FORMS.items() if "compression-level" not in options])
def test_a_cached_build_packs_nothing(packer: Packer, name: str) -> None:
    first = packer.build(FORMS[name][0])
    assert packer.build(FORMS[name][0]) == first
    assert packer.packed == 0


def test_exporters_with_different_forms_get_theirs(packer: Packer) -> None:
    wanted = [options for options, _ in FORMS.values()]
    together = packer.build(*wanted)
    assert packer.packed == OWN_LAYERS * len({ImageExporter(HOST, options).layer_form for options in wanted})
    streams = packer.streams(together[0])
    for (options, compression), layers in zip(FORMS.values(), together, strict=True):
        expected = [digest_of(stream, compression, options.get("compression-level")) for stream in streams]
        assert layers[BASE_LAYERS:] == expected, options


def test_what_is_forced_on_the_base_is_made_from_its_bytes(packer: Packer) -> None:
    (layers,) = packer.build({"compression": "zstd", "force-compression": True})
    assert {packer.compression(layer) for layer in layers} == {"zstd"}
    assert packer.packed == OWN_LAYERS + 100 * BASE_LAYERS


def test_nothing_is_packed_for_who_wants_files(packer: Packer, tmp_path: Path) -> None:
    packer.export(TarExporter(HOST, {"dest": str(tmp_path / "out.tar")}))
    # The native snapshotter copies what is below: it unpacks the linked layer on its base, from a blob.
    assert packer.packed == 1


def test_equal_forms_are_one() -> None:
    assert ImageExporter(HOST, {}).layer_form == ImageExporter(HOST, {"compression": "gzip"}).layer_form == LayerForm()
