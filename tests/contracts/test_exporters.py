"""Our exporters keep the contract, and each its own promises."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.program_exporter import ProgramExporter
from harness.tar_archives import TarSuite, attributes_of, files_in_archive
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


def layers_of(store: DirectoryStore, descriptor: Descriptor) -> Iterator[TarReader]:
    """Give the layers of an image as archives."""
    manifest = oci.parse_manifest(store.read(descriptor.digest), name="manifest")
    return (TarReader(Serial(uncompressed(store, layer))) for layer in manifest.layers)


def files_in_image(store: DirectoryStore, descriptor: Descriptor) -> dict[bytes, bytes]:
    """Layers of ready-made results only ever add files."""
    return {
        name: content for layer in layers_of(store, descriptor) for name, content in files_in_archive(layer).items()
    }


def attributes_in_image(store: DirectoryStore, descriptor: Descriptor) -> dict[bytes, Mapping[bytes, bytes]]:
    return {name: found for layer in layers_of(store, descriptor) for name, found in attributes_of(layer).items()}


class TestImage(ExporterContract):
    exporter = ImageExporter

    def prepare(self, dest: Path) -> None:
        """There is no destination."""

    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        return files_in_image(result.store, self.image(result))

    def attributes(self, dest: Path, result: ReadyResult) -> Mapping[bytes, Mapping[bytes, bytes]]:
        return attributes_in_image(result.store, self.image(result))

    def image(self, result: ReadyResult) -> Descriptor:
        (digest,) = set(result.store.tags().values())
        content = result.store.read(Digest(digest))
        return Descriptor(oci.OCI_MANIFEST, oci.digest(content), len(content))


class BundleContract(ExporterContract):
    def files(self, dest: Path, result: ReadyResult) -> Mapping[bytes, bytes]:
        return files_in_image(*self.loaded(dest, result))

    def attributes(self, dest: Path, result: ReadyResult) -> Mapping[bytes, Mapping[bytes, bytes]]:
        return attributes_in_image(*self.loaded(dest, result))

    def loaded(self, dest: Path, result: ReadyResult) -> tuple[DirectoryStore, Descriptor]:
        store = DirectoryStore(dest.parent.parent / "loaded")
        with dest.open("rb") as file:
            (image,) = read_bundle(file, store)
        assert image.names == tuple(result.names)
        return store, image.descriptor


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

    def attributes(self, dest: Path, result: ReadyResult) -> None:
        """GNU's form has none."""


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

    def attributes(self, dest: Path, result: ReadyResult) -> Mapping[bytes, Mapping[bytes, bytes]]:
        found = {path: os.fsencode(dest) + b"/" + path for path in self.files(dest, result)}
        names = {path: os.listxattr(full) for path, full in found.items()}
        return {
            path: {name.encode(): os.getxattr(found[path], name) for name in given}
            for path, given in names.items()
            if given
        }
