"""Registers ``type=inline`` of ``--cache-to``."""

from img_core.spec import CacheBackend, hookimpl


@hookimpl
def img_cache() -> type[CacheBackend]:
    """Return the backend class."""
    from img_cache_inline._inline import InlineCache

    return InlineCache
