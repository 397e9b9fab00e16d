"""GitHub's cache service as a place: entries cannot be changed, and nobody can list them.

A document is the entry ``img-index-<scope>-<number>``; the one with the highest number counts, and whoever saves takes the next. Two cannot
take the same: the service refuses the second, who reads again and goes on from there. So nothing is lost, without segments.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from img_cache_gha._service import Service
from img_core.images import oci
from img_core.spec.errors import NotFoundError
from img_core.spec.values import Descriptor, Digest
from img_lib_cache.places import ConflictError, Place

__all__ = ["Entries"]

_WRITING_SECONDS = 15.0  # what a job may take between reserving an entry and its end
_NUMBER = re.compile(r"-(\d{10})$")


class Entries(Place):
    """The entries of one *scope*."""

    lists_tags = False

    def __init__(self, title: str, service: Service, scope: str) -> None:
        self.title = title
        self._service = service
        self._prefix = f"img-index-{hashlib.sha256(scope.encode()).hexdigest()[:16]}-"
        self._number = 0  # of the document that was read last
        self._stored: set[Digest] = set()

    def close(self) -> None:
        """End all connections and all waiting."""
        self._service.close()

    def read(self, tag: str) -> bytes:
        """Read the entry with the highest number: the service gives the newest of those that begin alike."""
        found = self._service.find(self._prefix, prefix=True)
        match = _NUMBER.search(found.key) if found else None
        if found is None or match is None:
            raise NotFoundError(f"there is no cache in {self.title}")
        self._number = max(self._number, int(match[1]))
        return self._service.read(found)

    def document(self, digest: str) -> bytes:
        """Refuse: there are no indexes."""
        raise NotFoundError(f"{digest}: not found")

    def tags(self, prefix: str) -> list[str]:
        """Nobody can list entries."""
        return []

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Read the entry of a blob."""
        found = self._service.find(_blob(descriptor.digest))
        if found is None:
            raise NotFoundError(f"{descriptor.digest} is not in {self.title}, perhaps not any more")
        return self._service.chunks(found, descriptor, start)

    def holds(self, descriptor: Descriptor) -> bool:
        """Tell what was stored; the service forgets things, so what documents name is looked for."""
        return descriptor.digest in self._stored

    def add(
        self, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]], *, origins: Sequence[str] = ()
    ) -> None:
        """Make the entry of a blob, unless there is one."""
        key = _blob(descriptor.digest)
        if self._service.find(key) is None:
            self._service.write(key, descriptor.size, lambda: read(0))  # if another was quicker, it is the same
        self._stored.add(descriptor.digest)

    def publish(self, tag: str, manifest: bytes) -> Digest:
        """Make the entry with the next number."""
        key = f"{self._prefix}{self._number + 1:010d}"
        if not self._service.write(key, len(manifest), lambda: [manifest]):
            if not self._appears(key):
                self._number += 1  # a job reserved it and was killed
            raise ConflictError(f"{self.title} was written by another job")
        self._number += 1
        return oci.digest(manifest)

    def _appears(self, key: str) -> bool:
        """Wait until an entry that another job reserved can be read; return False if that takes too long."""
        end, pause = time.monotonic() + _WRITING_SECONDS, 0.02
        while time.monotonic() < end:
            if self._service.find(key) is not None:
                return True
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
        return False

    def remove(self, tag: str) -> None:
        """Leave it to the service, which forgets what nobody uses."""


def _blob(digest: str) -> str:
    return f"img-blob-{digest.removeprefix('sha256:')}"
