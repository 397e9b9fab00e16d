"""The two protocols of GitHub's cache service: that of 2019 with parts, and that of 2024 with addresses of a blob store.

Learnt from what the package ``@actions/cache`` sends: v1 is ``_apis/artifactcache``, v2 Twirp (JSON over POST).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from img_core.images import oci
from img_core.spec.errors import ImgError
from img_core.spec.values import Descriptor
from img_lib_cache.objects import Objects

__all__ = ["Entry", "Service", "ServiceV1", "ServiceV2"]

#: Says which entries are alike: here all that this plugin writes.
_VERSION = oci.digest(b"img cache 1").removeprefix("sha256:")
_CONFLICT = 409
_PART = 8 << 20  # bytes of one request of v1, which are in memory twice
_PIECE = 256 << 10  # bytes of it that are sent at once

Content = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was found: its whole *key*, and the address (with a signature in it) where its bytes are."""

    key: str
    url: str


class Service(ABC):
    """Finds, reads and writes entries. *base* is the address of the service."""

    number: ClassVar[str]

    def __init__(self, objects: Objects, base: str) -> None:
        self._objects = objects
        self._base = base

    def close(self) -> None:
        """End all connections and all waiting."""
        self._objects.close()

    @abstractmethod
    def find(self, key: str, *, prefix: bool = False) -> Entry | None:
        """Return the entry *key*, with *prefix* the newest whose key begins so; None if there is none."""

    @abstractmethod
    def write(self, key: str, size: int, content: Content) -> bool:
        """Make an entry; return whether it is ours, or another has that key already."""

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of a small entry."""
        return self._objects.ask("GET", entry.url, doing=f"read {entry.key}", signed=False)[1]

    def chunks(self, entry: Entry, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        """Give the bytes of an entry from *start* on."""
        return self._objects.chunks(entry.url, descriptor, start, doing=f"read {entry.key}", signed=False)

    def _json(
        self, method: str, path: str, value: Any = None, *, doing: str, accepted: Iterable[int] = ()
    ) -> tuple[int, Any]:  # Any: JSON
        """Send *value*; return the status and the answer."""
        headers = {"Accept": "application/json;api-version=6.0-preview.1"}
        content = b"" if value is None else json.dumps(value).encode()
        if value is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        status, body, _ = self._objects.ask(
            method, f"{self._base}/{path}", headers=headers, content=lambda: content, doing=doing, accepted=accepted
        )
        if not body:
            return status, {}
        found = oci.load_json(body, name="the answer of GitHub's cache service") if status < 300 else {}
        if not isinstance(found, dict):
            raise ImgError(f"failed to {doing}: the answer of GitHub's cache service is no object")
        return status, found


class ServiceV2(Service):
    """Twirp: entries lie in a blob store at addresses that are valid for a while."""

    number = "2"

    def find(self, key: str, *, prefix: bool = False) -> Entry | None:
        """Ask for an address to read from."""
        wanted = {"key": key, "restore_keys": [key] if prefix else [], "version": _VERSION}
        status, found = self._call("GetCacheEntryDownloadURL", wanted, doing=f"look for {key}", accepted=(404,))
        if status == 404 or not found.get("ok"):
            return None
        matched = str(found.get("matched_key") or key)
        return Entry(matched, str(found.get("signed_download_url"))) if prefix or matched == key else None

    def write(self, key: str, size: int, content: Content) -> bool:
        """Ask for an address to write to; then say that it is done."""
        named = {"key": key, "version": _VERSION}
        status, made = self._call("CreateCacheEntry", named, doing=f"make {key}", accepted=(_CONFLICT,))
        if status == _CONFLICT or not made.get("ok"):
            return False
        headers = {"Content-Length": str(size), "x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-08-06"}
        self._objects.ask(
            "PUT",
            str(made.get("signed_upload_url")),
            headers=headers,
            content=content,
            doing=f"write {key}",
            signed=False,
        )
        done = {**named, "size_bytes": str(size)}
        _, answer = self._call("FinalizeCacheEntryUpload", done, doing=f"finish {key}")
        if not answer.get("ok"):
            raise ImgError(f"failed to finish {key}: GitHub's cache service does not accept it")
        return True

    def _call(self, name: str, value: Any, *, doing: str, accepted: Iterable[int] = ()) -> tuple[int, Any]:  # Any: JSON
        path = f"twirp/github.actions.results.api.v1.CacheService/{name}"
        return self._json("POST", path, value, doing=doing, accepted=accepted)


class ServiceV1(Service):
    """REST: entries are reserved, sent in parts, and committed."""

    number = "1"
    _path = "_apis/artifactcache"

    def find(self, key: str, *, prefix: bool = False) -> Entry | None:
        """Ask for an address to read from; the service always matches beginnings."""
        path = f"{self._path}/cache?keys={quote(key, safe='')}&version={_VERSION}"
        status, found = self._json("GET", path, doing=f"look for {key}", accepted=(404,))
        matched = str(found.get("cacheKey") or "")
        if status != 200 or not matched or (matched != key and not prefix):
            return None
        return Entry(matched, str(found.get("archiveLocation")))

    def write(self, key: str, size: int, content: Content) -> bool:
        """Reserve, send, commit."""
        wanted = {"key": key, "version": _VERSION, "cacheSize": size}
        status, made = self._json("POST", f"{self._path}/caches", wanted, doing=f"reserve {key}", accepted=(_CONFLICT,))
        if status == _CONFLICT:
            return False
        path = f"{self._path}/caches/{int(made.get('cacheId', 0))}"
        start = 0
        for part in _parts(content()):
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(part)),
                "Content-Range": f"bytes {start}-{start + len(part) - 1}/*",
            }
            self._objects.ask(
                "PATCH", f"{self._base}/{path}", headers=headers, content=partial(_pieces, part), doing=f"write {key}"
            )
            start += len(part)
        self._json("POST", path, {"size": size}, doing=f"finish {key}")
        return True


def _parts(content: Iterable[bytes]) -> Iterator[bytes]:
    """Give the bytes of *content* in parts that one request may have."""
    gathered = bytearray()
    for chunk in content:
        gathered += chunk
        while len(gathered) >= _PART:
            with memoryview(gathered) as all_of_it:
                part = bytes(all_of_it[:_PART])
            del gathered[:_PART]
            yield part
    if gathered:
        yield bytes(gathered)


def _pieces(part: bytes) -> Iterator[bytes]:
    """Give *part* in pieces: what sends them makes copies."""
    for start in range(0, len(part), _PIECE):
        yield part[start : start + _PIECE]
