"""Registers ``type=s3`` of ``--cache-from`` and ``--cache-to``."""

from img_core.spec import CacheBackend, hookimpl


@hookimpl
def img_cache() -> type[CacheBackend]:
    """Return the backend class."""
    from img_cache_s3._cache import S3Cache

    return S3Cache
