"""A registry driver that speaks to nobody: everything is in files of this machine."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from img_core.files import fs
from img_core.images import oci
from img_core.spec.errors import IntegrityError, NotFoundError
from img_core.spec.registry import Fetched, Registry, Uploaded
from img_core.spec.values import Descriptor, Digest

__all__ = ["DirectoryRegistry"]

_CHUNK = 1 << 20


class Kept:
    """Contents and media types by repository and reference, in a directory that processes share and that ends with who made it."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="img-registry-")

    def path(self, key: tuple[str, str]) -> Path:
        """Return the file of a content; its media type and its key stand beside it."""
        return Path(self._directory.name, hashlib.sha256("\n".join(key).encode()).hexdigest())

    def __contains__(self, key: tuple[str, str]) -> bool:
        return self.path(key).exists()

    def __getitem__(self, key: tuple[str, str]) -> tuple[bytes, str]:
        try:
            return self.path(key).read_bytes(), self._about(self.path(key))[2]
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: tuple[str, str], value: tuple[bytes, str]) -> None:
        self.put(key, [value[0]], value[1])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for path in Path(self._directory.name).glob("*.about"):
            repository, reference, _ = self._about(path.with_suffix(""))
            yield repository, reference

    def put(self, key: tuple[str, str], chunks: Iterable[bytes], media_type: str) -> None:
        """Write a content as it comes; it is there once all of it is."""
        path = self.path(key)
        with fs.AtomicFile(path.parent) as file:
            for chunk in chunks:
                file.write(chunk)
            fs.replace_file(f"{path}.about", json.dumps([*key, media_type]).encode())
            file.commit(path)

    def _about(self, path: Path) -> list[str]:
        found: list[str] = json.loads(Path(f"{path}.about").read_bytes())
        return found


class DirectoryRegistry(Registry):
    """Keeps everything in one directory, for all objects."""

    name = "directory"
    kept: ClassVar[Kept] = Kept()

    def close(self) -> None:
        pass

    def ping(self, domain: str) -> None:
        pass

    def resolve(self, repository: str, reference: str) -> Digest | None:
        return self.fetch_document(repository, reference).digest

    def fetch_document(self, repository: str, reference: str) -> Fetched:
        content, media_type = self._find(repository, reference)
        return Fetched(content, media_type, oci.digest(content))

    def fetch_blob(
        self, repository: str, descriptor: Descriptor, *, start: int = 0, verify: bool = True
    ) -> Iterator[bytes]:
        path = self.kept.path((repository, descriptor.digest))
        if not path.exists():
            raise NotFoundError(f"{repository}: {descriptor.digest}: not found")
        if path.stat().st_size != descriptor.size:
            raise IntegrityError(f"{descriptor.digest} has {path.stat().st_size} bytes")
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield chunk

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        read: Callable[[int], Iterable[bytes]],
        *,
        mount_from: str | None = None,
    ) -> Uploaded:
        if (repository, descriptor.digest) in self.kept:
            return Uploaded.EXISTED
        if mount_from and (mount_from, descriptor.digest) in self.kept:
            self.kept[repository, descriptor.digest] = self.kept[mount_from, descriptor.digest]
            return Uploaded.MOUNTED
        self.kept.put((repository, descriptor.digest), read(0), descriptor.media_type)
        return Uploaded.SENT

    def put_document(self, repository: str, reference: str, content: bytes, media_type: str) -> Digest:
        digest = oci.digest(content)
        self.kept[repository, reference] = self.kept[repository, digest] = content, media_type
        return digest

    def tags(self, repository: str) -> list[str]:
        return [name for place, name in self.kept if place == repository and ":" not in name]

    def referrers(self, repository: str, digest: Digest, *, artifact_type: str = "") -> list[Descriptor]:
        return []

    def _find(self, repository: str, reference: str) -> tuple[bytes, str]:
        try:
            return self.kept[repository, reference]
        except KeyError:
            raise NotFoundError(f"{repository}: {reference}: not found") from None
