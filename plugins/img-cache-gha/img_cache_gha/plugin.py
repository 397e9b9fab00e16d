"""Registers ``type=gha`` of ``--cache-from`` and ``--cache-to``."""

from img_core.spec import CacheBackend, hookimpl


@hookimpl
def img_cache() -> type[CacheBackend]:
    """Return the backend class."""
    from img_cache_gha._cache import GhaCache

    return GhaCache
