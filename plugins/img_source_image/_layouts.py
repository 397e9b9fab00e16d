"""Directories that hold content of images already: blobs that need not come from a registry.

They may belong to anybody and hold anything: what is read has the digest that a registry or the user named, or it is refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from img_core.files import fs
from img_core.images import oci
from img_core.images.digests import blob_path
from img_core.spec.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from img_core.spec.values import Descriptor, Digest

__all__ = ["Layouts"]

_CHUNK: Final = 1 << 20


class Layouts:
    """*directories* with ``blobs/sha256/…``: OCI image layouts (image-spec, image-layout.md) and state directories."""

    def __init__(self, directories: Sequence[str]) -> None:
        for directory in directories:
            if not os.path.isdir(directory):
                raise UsageError(
                    f"`layouts` of `docker-image` names `{fs.show(directory)}`, which is no directory",
                    hint="an OCI image layout, or the state directory of another img; several are separated by `:`",
                )
        self._directories = directories

    def document(self, digest: Digest) -> bytes | None:
        """Return a manifest, index or config; None if no directory has it. Raises IntegrityError for one that is not what its name says."""
        found = self._opened(digest)
        if found is None:
            return None
        path, fd = found
        with open(fd, "rb", buffering=0) as file:
            content = file.read(oci.DOCUMENT_LIMIT + 1) or b""
        if oci.digest(content, digest) != digest:
            raise _wrong(path)
        return content

    def blob(self, descriptor: Descriptor, start: int) -> Iterator[bytes] | None:
        """Return the bytes of a blob from *start* on; None if no directory has it in that size."""
        found = self._opened(descriptor.digest)
        if found is None:
            return None
        path, fd = found
        if os.fstat(fd).st_size != descriptor.size:
            os.close(fd)
            return None
        return _chunks(path, fd, descriptor.digest, start)

    def _opened(self, digest: Digest) -> tuple[str, int] | None:
        for directory in self._directories:
            path = f"{directory}/{blob_path(digest)}"
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # not there, or not ours to read: the next one, or the registry
                continue
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return path, fd
            os.close(fd)
        return None


def _chunks(path: str, fd: int, digest: Digest, start: int) -> Iterator[bytes]:
    """Give what is read; at the end of a whole blob raise IntegrityError if it is another one."""
    algorithm, _, encoded = digest.partition(":")
    hashed = hashlib.new(algorithm)
    with open(fd, "rb", buffering=0) as file:
        file.seek(start)
        while data := file.read(_CHUNK):
            hashed.update(data)
            yield data
    if not start and hashed.hexdigest() != encoded:
        raise _wrong(path)


def _wrong(path: str) -> IntegrityError:
    return IntegrityError(f"`{fs.show(path)}` does not match its digest", hint="remove it, and a registry is asked")
