"""A cache of many machines, looked at and cut down: what ``--cache-to`` wrote."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from img_core.api._cache_places import directory_or_place
from img_core.api._values import CacheContents, CachedStep
from img_core.plugins import Choice
from img_core.spec.cache import CacheContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.api._given import StrPath
    from img_core.api.session import Session
    from img_core.spec.cache import CacheBackend, CacheRecord

__all__ = ["Silent", "contents", "opened"]


@contextmanager
def opened(session: Session, place: StrPath, insecure: bool, *, export: bool) -> Iterator[CacheBackend]:
    """Give the cache *place*: a directory, an image name, or what stands after ``--cache-from``. Raises ImgError."""
    wanted = directory_or_place(os.fspath(place), export=export)
    hosts = frozenset(["*"] if insecure else [])
    context = CacheContext(session.host, session.store, session.registry, hosts, time.time())
    choice = Choice(wanted.type, wanted.options)
    backend: CacheBackend = session.plugins.make("cache", choice, context, host=session.host)
    with closing(backend):
        backend.check(export=export)
        yield backend


def contents(records: Iterable[CacheRecord], warnings: Iterable[str] = ()) -> CacheContents:
    """Return what *records* hold, as callers see it."""
    steps = [record for record in records if record.definition]  # others tell of files that no step made
    blobs = {layer.descriptor.digest: layer.descriptor.size for record in steps for layer in record.layers or ()}
    ordered = sorted(steps, key=lambda record: (-record.last, -record.created, record.key))
    return CacheContents(tuple(map(_step, ordered)), sum(blobs.values()), len(blobs), tuple(warnings))


def _step(record: CacheRecord) -> CachedStep:
    size = None if record.layers is None else record.layers[-1].descriptor.size if record.layers else 0
    return CachedStep(
        record.key, record.description, record.platform, record.created, record.last, record.seconds, size
    )


class Silent:
    """Shows nobody what is done (spec.exporter.ExportProgress)."""

    def status(
        self, text: str, *, current: int = 0, total: int = 0, finished: bool | None = None, outcome: str = ""
    ) -> None:
        """Pass over it."""

    def check(self) -> None:
        """Never stop."""
