"""Which importer reads what comes in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from img_core.plugins import AUTO
from img_core.spec.errors import HostError

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
    """Return the first of the configured order that claims it; else the first that is off, for its error, or the first of all."""
    order = plugins.candidates("importer", [AUTO])
    if not order:
        raise HostError("no importer is configured", hint="see `importer` in `[order]` of config.toml")
    usable = plugins.names("importer")
    for name in order:
        if name in usable and plugins.driver("importer", name).claims(start, directory):
            claiming: Importer = plugins.make("importer", name)
            return claiming
    off = (name for name in order if not plugins.toggle("importer", name).enabled)
    first: Importer = plugins.make("importer", next(off, order[0]))
    return first


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
