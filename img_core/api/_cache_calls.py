"""Caches that many machines share, looked at and cut down."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from img_core.api._workplace import Workplace, apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.api._given import StrPath
    from img_core.api._values import CacheContents
    from img_core.api.session import Session
    from img_core.linux.cancellation import CancelHandle
    from img_core.spec.cache import CacheBackend, CacheRecord

__all__ = ["CacheCalls"]


class CacheCalls(Workplace):
    """The calls of a client about caches of many machines."""

    @apart
    def cache_contents(
        self, place: StrPath, *, insecure: bool = False, cancel: CancelHandle | None = None
    ) -> CacheContents:
        """Return what a cache of many machines holds: a directory, an image name, or what stands after ``--cache-from``.

        *insecure* as `pull`. Raises NotFoundError, RegistryError, UsageError.
        """
        with self._session(namespace=False) as session, _opened(session, place, insecure, export=False) as backend:
            loaded = backend.load()
        return _contents(loaded.records, loaded.warnings)

    @apart
    def prune_cache(
        self,
        place: StrPath,
        *,
        max_age: float | None = None,
        max_size: int | None = None,
        dry_run: bool = False,
        insecure: bool = False,
        cancel: CancelHandle | None = None,
    ) -> tuple[CacheContents, CacheContents]:
        """Remove from a cache of many machines what was not used for *max_age* seconds, and what exceeds *max_size* bytes of layers.

        What was used last stays. Return what went and what stays; with *dry_run* nothing is removed. *place* as `cache_contents`.
        """
        with self._session(namespace=False) as session, _opened(session, place, insecure, export=True) as backend:
            pruned = backend.prune(_Silent(), max_age=max_age, max_size=max_size, dry_run=dry_run)
        return _contents(pruned.removed), _contents(pruned.kept, pruned.warnings)


@contextmanager
def _opened(session: Session, place: StrPath, insecure: bool, *, export: bool) -> Iterator[CacheBackend]:
    """Give the cache *place*: a directory, an image name, or what stands after ``--cache-from``. Raises ImgError."""
    import time

    from img_core.api._cache_places import directory_or_place
    from img_core.plugins import Choice
    from img_core.spec.cache import CacheContext

    wanted = directory_or_place(os.fspath(place), export=export)
    hosts = frozenset(["*"] if insecure else [])
    context = CacheContext(session.host, session.store, session.registry, hosts, time.time())
    choice = Choice(wanted.type, wanted.options)
    with closing(session.plugins.make("cache", choice, context, host=session.host)) as backend:
        backend.check(export=export)
        yield backend


def _contents(records: Iterable[CacheRecord], warnings: Iterable[str] = ()) -> CacheContents:
    """Return what *records* hold, as callers see it."""
    from img_core.api._values import CacheContents, CachedStep

    steps = [record for record in records if record.definition]  # others tell of files that no step made
    blobs = {layer.descriptor.digest: layer.descriptor.size for record in steps for layer in record.layers or ()}
    shown = []
    for record in sorted(steps, key=lambda record: (-record.last, -record.created, record.key)):
        size = None if record.layers is None else record.layers[-1].descriptor.size if record.layers else 0
        used, seconds = record.last, record.seconds
        step = CachedStep(record.key, record.description, record.platform, record.created, used, seconds, size)
        shown.append(step)
    return CacheContents(tuple(shown), sum(blobs.values()), len(blobs), tuple(warnings))


class _Silent:
    """Shows nobody what is done (spec.exporter.ExportProgress)."""

    def status(
        self, text: str, *, current: int = 0, total: int = 0, finished: bool | None = None, outcome: str = ""
    ) -> None:
        """Pass over it."""

    def check(self) -> None:
        """Never stop."""
