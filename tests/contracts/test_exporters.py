"""Our exporters keep the contract, and each its own promises."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from img_core.archives.tar import TarReader
from img_core.archives.tar.member import HARD_LINK, REGULAR
from img_core.archives.tar.pipeline import Serial
from img_core.files import fs
from img_core.files.output import destination_errors
from img_core.images import oci
from img_core.spec.exporter import Exporter, ExportProgress, Result
from img_core.spec.values import Descriptor, Digest
from img_core.testing.contracts.exporter import ExporterContract
from img_core.testing.results import DirectoryStore, ReadyResult, make_result
from img_exporter_docker._docker import DockerExporter
from img_exporter_image._image import ImageExporter
from img_exporter_local._local import LocalExporter
from img_exporter_oci._oci import OciExporter
from img_exporter_tar._tar import TarExporter
from img_lib_export.bundle import read_bundle
from img_lib_export.repack import uncompressed


def files_in_archive(reader: TarReader) -> dict[bytes, bytes]:
    files: dict[bytes, bytes] = {}
    for member in reader:
        if member.type == REGULAR:
            files[member.name] = b"".join(reader.chunks())
        elif member.type == HARD_LINK:
            files[member.name] = files[member.linkname]
    return files


def files_in_image(store: DirectoryStore, descriptor: Descriptor) -> dict[bytes, bytes]:
    """Layers of ready-made results only ever add files."""
    manifest = oci.parse_manifest(store.read(descriptor.digest), name="manifest")
    files: dict[bytes, bytes] = {}
    for layer in manifest.layers:
        files.update(files_in_archive(TarReader(Serial(uncompressed(store, layer)))))
    return files


class InPlace(Exporter):
    """Breaks the contract: it writes where the old output is."""

    name = "in-place"
    schema: ClassVar[Mapping[str, Any] | None] = {
        "type": "object",
        "properties": {"dest": {"type": "string", "description": "file"}},
        "additionalProperties": False,
    }

    def export(self, result: Result, progress: ExportProgress) -> Mapping[str, Any]:
        with destination_errors(self.options["dest"]), open(self.options["dest"], "wb") as file:
            for number in range(3):
                fs.mutation("write", self.options["dest"])
                file.write(b"%d" % number)
                file.flush()
                progress.status("writing")
        return {}


@pytest.mark.parametrize(
    "promise",
    [
        "test_failing_disk_leaves_the_old_state",
        "test_kill_leaves_the_old_state_or_the_new_one",
        "test_cancel_leaves_the_old_state",
    ],
)
def test_contract_catches_an_exporter_that_writes_in_place(tmp_path: Path, promise: str) -> None:
    class Suite(ExporterContract):
        exporter = InPlace

    arguments = {"error": 28} if "failing" in promise else {}
    try:
        with pytest.raises(AssertionError):
            getattr(Suite(), promise)(tmp_path, make_result(tmp_path / "result"), **arguments)
    finally:
        fs.faults.uninstall()


class TestImage(ExporterContract):
    exporter = ImageExporter

    def prepare(self, dest: Path) -> None:
        """There is no destination."""

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        (digest,) = set(result.store.tags().values())
        content = result.store.read(Digest(digest))
        return files_in_image(result.store, Descriptor(oci.OCI_MANIFEST, oci.digest(content), len(content)))


class BundleContract(ExporterContract):
    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        store = DirectoryStore(dest.parent.parent / "loaded")
        with dest.open("rb") as file:
            (image,) = read_bundle(file, store)
        assert image.names == tuple(result.names)
        return files_in_image(store, image.descriptor)


class TestOci(BundleContract):
    exporter = OciExporter


class TestDocker(BundleContract):
    exporter = DockerExporter


class TestOciUncompressed(BundleContract):
    """Layers are written anew here, so the store takes part in every fault."""

    exporter = OciExporter
    options: ClassVar[dict[str, Any]] = {"compression": "uncompressed", "force-compression": True}


class TestTar(ExporterContract):
    exporter = TarExporter

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        with dest.open("rb") as file:
            return files_in_archive(TarReader(file))


class TestLocal(ExporterContract):
    """A new directory appears whole; merging into an existing one is tested below."""

    exporter = LocalExporter

    def prepare(self, dest: Path) -> None:
        """A directory that exists is merged into, entry by entry."""

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        files = {}
        for parent, _, names in os.walk(os.fsencode(dest)):
            for name in names:
                path = os.path.join(parent, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    files[os.path.relpath(path, os.fsencode(dest))] = Path(os.fsdecode(path)).read_bytes()
        return files
