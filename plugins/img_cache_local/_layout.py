"""An OCI image layout (image-spec, image-layout.md) that several writers on several machines may use at once.

Each tag is a file of its own, ``img-tags/<tag>.json`` with a descriptor; ``index.json`` is made from them, for other tools, and read only
where there are none. Everything is written under a temporary name, synced, and renamed; blobs come before what names them. There are no
locks and no hard links: NFS has neither that one could rely on.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from img_core.files import fs
from img_core.files.refusals import refusals
from img_core.images import oci
from img_core.images.digests import ALGORITHMS, Hasher, blob_path, is_digest
from img_core.images.reference import is_tag
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError
from img_core.spec.values import Descriptor, Digest
from img_lib_cache.places import Place

__all__ = ["SharedLayout"]

_TAGS = "img-tags"
_BLOBS = tuple(f"blobs/{algorithm}" for algorithm in ALGORITHMS)
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_REF_NAME = "org.opencontainers.image.ref.name"
_CHUNK = 256 * 1024
_YOUNG_SECONDS = 3600.0  # what is younger may belong to a writer that is not done
_TEMPORARY = ".tmp-"
_READY = ".complete"  # in the directory of the tags: all are there, also those that another tool had in its index


class SharedLayout(Place):
    """The layout in *directory*. Reading makes nothing; the first blob makes the directory."""

    def __init__(self, directory: str, tag: str, *, digest: str = "", reset: bool = False) -> None:
        self._directory = directory
        self._tag = tag
        self._digest = digest
        self._reset = reset
        self.title = fs.show(directory) + ("" if tag == "latest" else f" ({tag})")

    # ------------------------------------------------------------------------------------------------------- reading

    def read(self, tag: str) -> bytes:
        """Return the manifest of *tag*, or the one with the digest that was asked for."""
        if tag == self._tag and self._digest:
            return self._manifest(self._digest)
        try:
            descriptor = json.loads(self._small(os.path.join(_TAGS, f"{tag}.json")))
        except FileNotFoundError:
            descriptor = self._indexed(tag)
        except ValueError:
            raise IntegrityError(f"`{tag}.json` is not JSON") from None
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not isinstance(digest, str) or not is_digest(digest):
            raise IntegrityError(f"`{tag}.json` names no digest")
        return self._manifest(digest)

    def _indexed(self, tag: str) -> Any:  # Any: JSON
        """Return the descriptor that ``index.json`` has for *tag*, in a layout that another tool wrote."""
        ready = os.path.exists(os.path.join(self._directory, _TAGS, _READY))
        found = None if ready else self._index().get(tag)
        if found is None:
            raise NotFoundError(f"there is no cache `{tag}` in `{fs.show(self._directory)}`")
        return found

    def _index(self) -> dict[str, Any]:  # Any: JSON
        """Return the descriptors of ``index.json`` by their tags."""
        found: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, ValueError, AttributeError, TypeError, KeyError):
            for item in json.loads(self._small("index.json"))["manifests"]:
                found[str(item["annotations"][_REF_NAME])] = item
        return found

    def _manifest(self, digest: str) -> bytes:
        content = self.document(digest)
        if oci.digest(content) != digest:
            raise IntegrityError(f"{digest} has other content")
        return content

    def document(self, digest: str) -> bytes:
        """Return a small blob."""
        try:
            return self._small(blob_path(digest))
        except FileNotFoundError:
            raise NotFoundError(f"{digest} is missing in `{fs.show(self._directory)}`") from None

    def _small(self, path: str) -> bytes:
        with self._errors(), open(os.path.join(self._directory, path), "rb") as file:
            content = file.read(oci.DOCUMENT_LIMIT + 1)
        if len(content) > oci.DOCUMENT_LIMIT:
            raise IntegrityError(f"`{path}` has more than {oci.DOCUMENT_LIMIT} bytes")
        return content

    def tags(self, prefix: str) -> list[str]:
        """List the files of tags."""
        try:
            with self._errors():
                names = os.listdir(os.path.join(self._directory, _TAGS))
        except FileNotFoundError:
            return []
        return [name.removesuffix(".json") for name in names if name.startswith(prefix) and name.endswith(".json")]

    def fetch(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Read a blob's file."""
        try:
            with self._errors(), open(self._blob(descriptor.digest), "rb") as file:
                if os.fstat(file.fileno()).st_size != descriptor.size:
                    raise IntegrityError(f"{descriptor.digest} in `{fs.show(self._directory)}` has another size")
                file.seek(start)
                while chunk := file.read(_CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise NotFoundError(f"{descriptor.digest} is missing in `{fs.show(self._directory)}`") from None

    def holds(self, descriptor: Descriptor) -> bool:
        """Look for the file; its size has to be right."""
        try:
            return os.stat(self._blob(descriptor.digest)).st_size == descriptor.size
        except OSError:
            return False

    # ------------------------------------------------------------------------------------------------------- writing

    def add(
        self, descriptor: Descriptor, read: Callable[[int], Iterable[bytes]], *, origins: Sequence[str] = ()
    ) -> None:
        """Write a blob's file, unless it is there."""
        if self.holds(descriptor):
            return
        hashed, path = Hasher(descriptor.digest), self._blob(descriptor.digest)
        with self._errors():
            self._prepare()
            self._make(os.path.dirname(path))
            with fs.AtomicFile(os.path.dirname(path), mode=0o666, prefix=_TEMPORARY) as file:
                for chunk in read(0):
                    hashed.update(chunk)
                    file.write(chunk)
                if hashed.digest != descriptor.digest:
                    raise IntegrityError(f"blob {descriptor.digest} is damaged")
                file.commit(path, sync=True)

    def publish(self, tag: str, manifest: bytes) -> Digest:
        """Write the manifest, then the file of the tag, then the index for others."""
        descriptor = Descriptor(oci.OCI_MANIFEST, oci.digest(manifest), len(manifest))
        self.add(descriptor, lambda start: [manifest[start:]])
        with self._errors():
            for directory in (os.path.join(self._directory, name) for name in _BLOBS):
                if os.path.isdir(directory):
                    fs.sync_files(directory, [])  # the names of the blobs
            self._write(_TAGS, f"{tag}.json", oci.canonical_json(oci.descriptor_document(descriptor)))
            self._write_index()
        return descriptor.digest

    def remove(self, tag: str) -> None:
        """Remove the file of the tag."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            fs.unlink(os.path.join(self._directory, _TAGS, f"{tag}.json"))

    def _prepare(self) -> None:
        """Make the directories and the marker of a layout."""
        if os.path.exists(os.path.join(self._directory, _TAGS, _READY)):
            return
        for part in ("", "blobs", _TAGS):
            self._make(os.path.join(self._directory, part).rstrip("/"))
        for tag, descriptor in self._index().items():  # of another tool: its tags stay
            if is_tag(tag):
                self._write(_TAGS, f"{tag}.json", oci.canonical_json(descriptor))
        self._write("", "oci-layout", _LAYOUT)
        self._write(_TAGS, _READY, b"")

    def _write(self, directory: str, name: str, content: bytes) -> None:
        """Replace a small file, durably."""
        directory = os.path.join(self._directory, directory)
        with fs.AtomicFile(directory, mode=0o666, prefix=_TEMPORARY) as file:
            file.write(content)
            file.commit(os.path.join(directory, name), sync=True)
        fs.sync_files(directory, [])

    def _write_index(self) -> None:
        """Make ``index.json`` from the tags, without segments: other tools have no use for them."""
        entries = []
        for tag in sorted(self.tags("")):
            with contextlib.suppress(OSError, ValueError, ImgError):
                entry = json.loads(self._small(os.path.join(_TAGS, f"{tag}.json")))
                if is_tag(tag) and ".seg-" not in tag:
                    entries.append({**entry, "annotations": {_REF_NAME: tag}})
        index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
        self._write("", "index.json", oci.canonical_json(index))

    def tidy(self, *, always: bool = False) -> None:
        """Remove blobs that no tag needs, if that was asked for; those of the last hour may be needed by a writer that is not done."""
        if not (self._reset or always):
            return
        with self._errors():
            needed = self._needed()
            for name in self._files():
                path = os.path.join(self._directory, name)
                with contextlib.suppress(FileNotFoundError):
                    if name not in needed and time.time() - os.stat(path).st_mtime > _YOUNG_SECONDS:
                        fs.unlink(path)

    def _files(self) -> Iterator[str]:
        """Give the paths of all files of blobs, within the directory."""
        for directory in _BLOBS:
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(os.path.join(self._directory, directory)):
                    yield f"{directory}/{name}"

    def _needed(self) -> set[str]:
        """Return the paths of all blobs that a tag leads to. Raises ImgError if that cannot be told: then nothing may go."""
        needed: set[str] = set()
        for tag in self.tags(""):
            try:
                manifest = self.read(tag)
                document = oci.load_json(manifest, name=tag)
            except NotFoundError:
                continue
            needed.add(blob_path(oci.digest(manifest)))
            for item in [document.get("config", {}), *document.get("layers", []), *document.get("manifests", [])]:
                needed.add("blobs/" + str(item.get("digest")).replace(":", "/"))
        return needed

    # --------------------------------------------------------------------------------------------------------- helpers

    def _blob(self, digest: str) -> str:
        return os.path.join(self._directory, blob_path(digest))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the system's words into one line; a missing file is told apart."""
        with refusals(self._directory, self._unusable, passing=(FileNotFoundError,)):
            yield

    def _unusable(self, reason: str) -> ImgError:
        return ImgError(f"cannot use the cache in `{fs.show(self._directory)}`: {reason}", hint="choose another place")

    def _make(self, directory: str) -> None:
        """Make *directory* and those above it; others may do so at the same time."""
        parent = os.path.dirname(directory)
        if parent and not os.path.isdir(parent):
            self._make(parent)
        with refusals(self._directory, self._unusable), contextlib.suppress(FileExistsError):
            fs.mkdir(directory)
