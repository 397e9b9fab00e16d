"""The backend of a bucket: options, and where they lead."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from img_cache_s3._bucket import Bucket, Names
from img_cache_s3._signature import find_keys, signed
from img_core.images.reference import is_tag
from img_core.net.hosts import origin
from img_core.spec.cache import CacheContext
from img_core.spec.errors import UsageError
from img_core.spec.text import show
from img_lib_cache import options as shared
from img_lib_cache.backend import DocumentCache
from img_lib_cache.objects import Objects
from img_lib_cache.places import Place

__all__ = ["S3Cache"]


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


class S3Cache(DocumentCache):
    """Keeps records in the bucket ``bucket`` under ``name``."""

    name = "s3"
    schema: ClassVar[Mapping[str, Any]] = shared.schema(  # Any: JSON Schema
        {
            "bucket": _text("bucket; AWS_BUCKET by default"),
            "region": _text("region; AWS_REGION by default"),
            "name": _text("name of the cache in the bucket; img by default"),
            "prefix": _text("what the names of all objects begin with"),
            "blobs_prefix": _text("what those of layers go on with; blobs/ by default"),
            "manifests_prefix": _text("what those of documents go on with; manifests/ by default"),
            "endpoint_url": _text("address of a service that is not Amazon's"),
            "use_path_style": {"type": "boolean", "description": "put the bucket into the path of addresses"},
            "access_key_id": _text("AWS_ACCESS_KEY_ID by default"),
            "secret_access_key": _text("AWS_SECRET_ACCESS_KEY by default"),
            "session_token": _text("AWS_SESSION_TOKEN by default"),
            "touch_refresh": _text("objects in use that are older are copied onto themselves; 24h by default"),
        }
    )
    sends_early: ClassVar[bool] = True
    own_options: ClassVar[Mapping[str, bool]] = {"touch_refresh": True}

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(context, options)
        environment = context.host.environment
        self._bucket = str(options.get("bucket") or environment.get("AWS_BUCKET") or "")
        regions = (options.get("region"), environment.get("AWS_REGION"), environment.get("AWS_DEFAULT_REGION"))
        self._region = str(next((item for item in regions if item), ""))
        if not self._bucket or not self._region:
            missing = "region" if self._bucket else "bucket"
            raise UsageError(f"an s3 cache needs `{missing}`", hint=f"add `{missing}=…`, or set AWS_{missing.upper()}")
        if not is_tag(self.tag):
            raise UsageError(f"`{show(self.tag)}` is no name for a cache", hint="letters, digits, `_`, `.` and `-`")
        endpoint = str(options.get("endpoint_url") or "")
        if endpoint and origin(endpoint) is None:
            raise UsageError(f"`{show(endpoint)}` is no address", hint="e.g. `endpoint_url=https://s3.example`")
        self._base = _address(endpoint, self._region, self._bucket, in_path=bool(options.get("use_path_style")))
        self._refresh = shared.duration({"touch_refresh": "24h", **options}, "touch_refresh") or 0.0
        self.location = f"{self.name} {self._base}{self._word('prefix', '')}{self._word('blobs_prefix', 'blobs/')}"

    @property
    def tag(self) -> str:
        """The option ``name``."""
        return self._word("name", "img")

    def _word(self, name: str, default: str) -> str:
        return str(self.options.get(name) or default)

    def open_place(self) -> Place:
        """Return the bucket."""
        environment = self.context.host.environment
        keys = find_keys(self.options, environment)
        objects = Objects(environment, partial(signed, keys=keys, region=self._region))
        prefix = self._word("prefix", "")
        names = Names(
            bucket=self._bucket,
            manifests=prefix + self._word("manifests_prefix", "manifests/"),
            blobs=prefix + self._word("blobs_prefix", "blobs/"),
        )
        return Bucket(f"s3 {self._bucket}/{prefix}{self.tag}", objects, self._base, names, self._refresh)


def _address(endpoint: str, region: str, bucket: str, *, in_path: bool) -> str:
    """Return the address that the names of objects are appended to."""
    parts = urlsplit((endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/"))
    if in_path:
        return f"{parts.scheme}://{parts.netloc}{parts.path}/{quote(bucket)}/"
    return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path}/"
