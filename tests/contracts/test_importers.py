"""Importers against their contract, and which of them gets what comes in."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from img_core.testing.contracts.importer import ImporterContract
from img_core.testing.images import SmallImage, write_layout
from img_importer_archive._importers import ArchiveImporter, LayoutImporter


class TestLayout(ImporterContract):
    importer_class = LayoutImporter

    def write(self, image: SmallImage, directory: Path) -> Path:
        write_layout(directory, {"1": image})
        return directory


class TestArchive(ImporterContract):
    importer_class = ArchiveImporter

    def write(self, image: SmallImage, directory: Path) -> Path:
        write_layout(directory / "layout", {"1": image})
        with tarfile.open(directory / "image.tar", "w") as archive:
            archive.add(directory / "layout", arcname=".")
        return directory / "image.tar"


class TestCompressedArchive(TestArchive):
    def write(self, image: SmallImage, directory: Path) -> Path:
        plain = super().write(image, directory)
        plain.write_bytes(gzip.compress(plain.read_bytes()))
        return plain


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_of_today_is_claimed(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("index.json"))
    assert ArchiveImporter.claims(buffer.getvalue()[:512])
    assert not LayoutImporter.claims(buffer.getvalue()[:512])
