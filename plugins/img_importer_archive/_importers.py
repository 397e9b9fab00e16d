"""Two ways in for the same documents: one tar stream, whose kind shows only when it was read, or a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.archives.codecs import detect
from img_core.spec.importer import Importer, ImportStream, LoadedImage
from img_lib_export.bundle import read_bundle

if TYPE_CHECKING:
    import os

    from img_core.spec.exporter import ImageStore

__all__ = ["ArchiveImporter", "LayoutImporter"]

_TAR_MAGIC = slice(257, 262)  # of a tar header (POSIX pax interchange format); those before 1988 have none


class ArchiveImporter(Importer):
    """One tar archive, plain or compressed: what ``docker save`` writes, an OCI image layout, or, as docker does today, both in one."""

    name = "archive"

    @classmethod
    def claims(cls, start: bytes, directory: str = "") -> bool:
        """Look for a tar header or the magic number of a compression."""
        return not directory and (start[_TAR_MAGIC] == b"ustar" or detect(start) is not None)

    def load(self, source: ImportStream | str | os.PathLike[str], store: ImageStore) -> list[LoadedImage]:
        """Read the stream once."""
        return read_bundle(source, store)


class LayoutImporter(Importer):
    """A directory with an OCI image layout."""

    name = "layout"

    @classmethod
    def claims(cls, start: bytes, directory: str = "") -> bool:
        """Take every directory: there is no other kind of them."""
        return bool(directory)

    def load(self, source: ImportStream | str | os.PathLike[str], store: ImageStore) -> list[LoadedImage]:
        """Read what ``index.json`` names."""
        return read_bundle(source, store)
