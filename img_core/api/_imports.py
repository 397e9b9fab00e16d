"""Which importer reads what comes in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from img_core.plugins import Plugins
    from img_core.spec.exporter import ImageStore
    from img_core.spec.importer import Importer, ImportStream, LoadedImage

__all__ = ["read_images"]

_START = 512  #: bytes that importers look at; as many as a tar header


def read_images(
    plugins: Plugins, source: ImportStream | str | os.PathLike[str], store: ImageStore
) -> list[LoadedImage]:
    """Let the importer that claims *source* (a stream, or the path of a directory) put its images into *store*.

    Raises ArchiveError, IntegrityError, and PluginError that says who switched off what would be needed.
    """
    if isinstance(source, str | os.PathLike):
        return _importer(plugins, b"", os.fspath(source)).load(source, store)
    stream = _Looked(source)
    return _importer(plugins, stream.start, "").load(stream, store)


def _importer(plugins: Plugins, start: bytes, directory: str) -> Importer:
    made: Importer = plugins.make("importer", plugins.claiming("importer", lambda of: of.claims(start, directory)))
    return made


class _Looked:
    """A stream whose *start* was looked at and is given nevertheless."""

    def __init__(self, source: ImportStream) -> None:
        self._source = source
        self.start = b""
        while len(self.start) < _START and (data := source.read(_START - len(self.start))):
            self.start += data
        self._left = self.start

    def read(self, size: int, /) -> bytes:
        if self._left:
            data, self._left = self._left[:size], self._left[size:]
            return data
        return self._source.read(size)
