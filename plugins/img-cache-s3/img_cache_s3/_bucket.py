"""A bucket as a place: manifests and blobs are objects of their own."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from img_core.images import oci
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.values import Descriptor, Digest
from img_lib_cache.objects import Objects
from img_lib_cache.places import Place

__all__ = ["Bucket", "Names"]

_PUT_LIMIT = 5 << 30  # bytes of one request, by the service
_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Names:
    """How objects are called: what the names of *manifests* and of *blobs* in a *bucket* begin with."""

    bucket: str
    manifests: str
    blobs: str


class Bucket(Place):
    """Objects below the address *base*. One in use that is older than *refresh* seconds is made young."""

    def __init__(self, title: str, objects: Objects, base: str, names: Names, refresh: float) -> None:
        self.title = title
        self._objects = objects
        self._base = base
        self._names = names
        self._refresh = refresh
        self._noted: set[Digest] = set()

    def close(self) -> None:
        """End all connections and all waiting."""
        self._objects.close()

    def read(self, tag: str) -> bytes:
        """Get the object of a manifest."""
        return self._objects.ask("GET", self._url(self._names.manifests + tag), doing=f"read {self.title}")[1]

    def document(self, digest: str) -> bytes:
        """Refuse: there are no indexes."""
        raise NotFoundError(f"{digest}: not found")

    def tags(self, prefix: str) -> list[str]:
        """List the objects of manifests (ListObjectsV2)."""
        found: list[str] = []
        more: dict[str, str] = {}
        for _ in range(_PAGES):
            query = {"list-type": "2", "prefix": self._names.manifests + prefix, **more}
            words = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
            page = self._objects.ask("GET", f"{self._base}?{words}", doing=f"list {self.title}")[1].decode()
            found += [html.unescape(key) for key in re.findall(r"<Key>([^<]*)</Key>", page)]
            token = re.search(r"<NextContinuationToken>([^<]*)</NextContinuationToken>", page)
            if token is None:
                break
            more = {"continuation-token": html.unescape(token[1])}
        return [key.removeprefix(self._names.manifests) for key in found if key.startswith(self._names.manifests)]

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Get the object of a blob."""
        url = self._url(self._names.blobs + descriptor.digest)
        return self._objects.chunks(url, descriptor, start, doing=f"read {descriptor.digest}")

    def holds(self, descriptor: Descriptor) -> bool:
        """Tell what this object stored: what manifests name may be removed by a lifecycle rule, so it is looked at."""
        return descriptor.digest in self._noted

    def add(
        self, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]], *, origins: Sequence[str] = ()
    ) -> None:
        """Put the object of a blob, unless it is there; one that is old is made young."""
        key = self._names.blobs + descriptor.digest
        if descriptor.size > _PUT_LIMIT:
            raise ImgError(f"{descriptor.digest} has more than the {_PUT_LIMIT >> 30} GiB that an object may have")
        status, _, headers = self._objects.ask(
            "HEAD", self._url(key), doing=f"look for {descriptor.digest}", accepted=(404,)
        )
        if status == 404:
            self._put(key, descriptor.digest, descriptor.size, lambda: read(0))
        elif _age(headers["last-modified"]) > self._refresh:
            touch = {"x-amz-copy-source": quote(f"/{self._names.bucket}/{key}"), "x-amz-metadata-directive": "REPLACE"}
            self._objects.ask("PUT", self._url(key), headers=touch, doing=f"refresh {descriptor.digest}")
        self._noted.add(descriptor.digest)

    def publish(self, tag: str, manifest: bytes) -> Digest:
        """Put the object of a manifest."""
        digest = oci.digest(manifest)
        self._put(self._names.manifests + tag, digest, len(manifest), lambda: [manifest])
        return digest

    def remove(self, tag: str) -> None:
        """Delete the object of a manifest."""
        url = self._url(self._names.manifests + tag)
        self._objects.ask("DELETE", url, doing=f"delete {tag}", accepted=(404,))

    def _put(self, key: str, digest: str, size: int, content: Callable[[], Iterable[bytes]]) -> None:
        headers = {"Content-Length": str(size), "x-amz-content-sha256": digest.removeprefix("sha256:")}
        self._objects.ask("PUT", self._url(key), headers=headers, content=content, doing=f"store {key}")

    def _url(self, key: str) -> str:
        return self._base + quote(key, safe="/-_.~")


def _age(modified: str) -> float:
    """Return how old something is in seconds; 0 if the service does not say."""
    try:
        return time.time() - parsedate_to_datetime(modified).timestamp()
    except (ValueError, TypeError):
        return 0.0
