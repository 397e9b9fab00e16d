"""Caches that many machines share, looked at and cut down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.api._workplace import Workplace, apart

if TYPE_CHECKING:
    from img_core.api._given import StrPath
    from img_core.api._values import CacheContents
    from img_core.linux.cancellation import CancelHandle

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
        from img_core.api._shared_cache import contents, opened

        with self._session(namespace=False) as session, opened(session, place, insecure, export=False) as backend:
            loaded = backend.load()
        return contents(loaded.records, loaded.warnings)

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
        from img_core.api._shared_cache import Silent, contents, opened

        with self._session(namespace=False) as session, opened(session, place, insecure, export=True) as backend:
            pruned = backend.prune(Silent(), max_age=max_age, max_size=max_size, dry_run=dry_run)
        return contents(pruned.removed), contents(pruned.kept, pruned.warnings)
