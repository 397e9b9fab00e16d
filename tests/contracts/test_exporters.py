"""Our exporters keep the contract, and each its own promises."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.program_exporter import ProgramExporter
from harness.tar_archives import TarSuite, files_in_archive
from img_core.archives.tar import TarReader
from img_core.archives.tar.pipeline import Serial
from img_core.images import oci
from img_core.spec.values import Descriptor, Digest
from img_core.testing.contracts.exporter import ExporterContract
from img_core.testing.results import DirectoryStore, ReadyResult
from img_exporter_docker._docker import DockerExporter
from img_exporter_image._image import ImageExporter
from img_exporter_local._local import LocalExporter
from img_exporter_oci._oci import OciExporter
from img_exporter_tar._tar import TarExporter
from img_lib_export.bundle import read_bundle
from img_lib_export.repack import uncompressed


def files_in_image(store: DirectoryStore, descriptor: Descriptor) -> dict[bytes, bytes]:
    """Layers of ready-made results only ever add files."""
    manifest = oci.parse_manifest(store.read(descriptor.digest), name="manifest")
    files: dict[bytes, bytes] = {}
    for layer in manifest.layers:
        files.update(files_in_archive(TarReader(Serial(uncompressed(store, layer)))))
    return files


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


class TestTar(TarSuite):
    exporter = TarExporter


class TestProgram(TarSuite):
    """An exporter that leaves all of its work to a program, and needs an option beside `dest`."""

    exporter = ProgramExporter
    options: ClassVar[dict[str, Any]] = {"program": "tar"}

    def owners(self, dest: Path, result: ReadyResult) -> None:
        """They are those of our files: the program knows nothing of the tree's."""


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
