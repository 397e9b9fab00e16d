"""Registers ``type=registry`` of ``--cache-from`` and ``--cache-to``."""

from img_core.spec import CacheBackend, hookimpl


@hookimpl
def img_cache() -> type[CacheBackend]:
    """Return the backend class."""
    from img_cache_registry._registry import RegistryCache

    return RegistryCache
