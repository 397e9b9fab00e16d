"""Images in a directory with an OCI image layout (OCI image-spec, image-layout.md), for ``--build-context x=oci-layout://…``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, ClassVar

from img_core.files import fs
from img_core.images import oci, platforms
from img_core.images.digests import blob_path, is_digest
from img_core.images.lookup import look_up
from img_core.spec.errors import IntegrityError, NotFoundError, UsageError
from img_core.spec.source import ImageSource, PinnedImage
from img_core.spec.values import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.spec.graph import SourceOp
    from img_core.spec.values import Descriptor, Platform

__all__ = ["LayoutSource"]

_REF_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_DEFAULT_TAG = "latest"
_CHUNK = 1 << 20


class LayoutSource(ImageSource):
    """Serves ``oci-layout``: references are ``<directory>[:<tag>|@<digest>]``.

    Without tag it is ``latest``, or the only image there is. Nothing in the directory is trusted: links stay inside, digests are checked.
    """

    name: ClassVar[str] = "oci-layout"

    @classmethod
    def claims(cls, address: str) -> str | None:
        """Claim ``oci-layout://DIRECTORY``."""
        scheme, separator, directory = address.partition("://")
        return os.path.abspath(directory) if separator and scheme == cls.name else None

    def pin(self, op: SourceOp, platform: Platform | None) -> PinnedImage:
        """Find the image. Raises NotFoundError, IntegrityError, UsageError if the directory is no layout."""
        directory, tag, digest = _split(op.reference)
        layout = _Layout(directory)
        try:
            entry = digest or layout.tagged(tag)
            wanted = platform or platforms.host_platform()
            return look_up(layout, entry, wanted, name=f"{directory}@{entry}", repository=directory)
        finally:
            layout.close()

    def blob(self, pinned: PinnedImage, descriptor: Descriptor) -> Iterator[bytes]:
        """Give the bytes of a layer; the caller verifies them."""
        layout = _Layout(pinned.reference.rpartition("@")[0])
        try:
            yield from layout.chunks(descriptor.digest)
        finally:
            layout.close()


def _split(reference: str) -> tuple[str, str, str]:
    """Return directory, tag and digest; a directory whose name holds a colon is one if it exists."""
    if os.path.isdir(reference):
        return reference, "", ""
    head, at, digest = reference.rpartition("@")
    if at:
        if not is_digest(digest):
            raise UsageError(f"`{fs.show(digest)}` is not a digest")
        return (head if os.path.isdir(head) else head.rpartition(":")[0] or head), "", digest
    head, colon, tag = reference.rpartition(":")
    return (head, tag, "") if colon and "/" not in tag else (reference, "", "")


class _Layout:
    """The documents of one layout (`img_core.images.lookup.Documents`)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            reason = os.strerror(err.errno or 0).lower()
            raise NotFoundError(f"OCI layout `{fs.show(directory)}`: {reason}") from err

    def close(self) -> None:
        os.close(self._root)

    def tagged(self, tag: str) -> Digest:
        """Return the digest of the manifest or index called *tag*."""
        entries = self._index().manifests
        named = {_tag(entry): entry for entry in entries}
        if not tag and len(entries) == 1:
            return entries[0].digest
        entry = named.get(tag or _DEFAULT_TAG)
        if entry is None:
            offered = ", ".join(fs.show(name) for name in sorted(filter(None, named)))
            raise NotFoundError(
                f"OCI layout `{fs.show(self._directory)}` has no image `{fs.show(tag or _DEFAULT_TAG)}`: not found",
                hint=f"it has {offered}" if offered else "its images have no names; append `@<digest>`",
            )
        return entry.digest

    def manifest(self, reference: str) -> tuple[bytes, str, Digest]:
        content, digest = self._document(reference)
        return content, "", digest

    def config(self, descriptor: Descriptor) -> bytes:
        return self._document(descriptor.digest)[0]

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Give the bytes of a blob."""
        try:
            descriptor = fs.open_in_root(self._root, blob_path(digest).encode(), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as err:
            raise self._missing(digest) from err
        with open(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._missing(digest)
            while data := file.read(_CHUNK):
                yield data

    def _index(self) -> oci.Index:
        try:
            content = fs.read_bounded(self._root, b"index.json", oci.DOCUMENT_LIMIT)
        except OSError as err:
            raise UsageError(
                f"`{fs.show(self._directory)}` is not an OCI layout: no index.json",
                hint="e.g. what `img save --format oci` wrote, unpacked",
            ) from err
        return oci.parse_index(content, name=f"index.json of `{fs.show(self._directory)}`")

    def _document(self, digest: str) -> tuple[bytes, Digest]:
        try:
            content = fs.read_bounded(self._root, blob_path(digest).encode(), oci.DOCUMENT_LIMIT)
        except OSError as err:
            raise self._missing(digest) from err
        got = oci.digest(content, digest)
        if got != digest:
            raise IntegrityError(f"{fs.show(self._directory)}@{digest} does not match its digest: got {got}")
        return content, got

    def _missing(self, digest: str) -> NotFoundError:
        return NotFoundError(f"{fs.show(self._directory)}@{digest}: not found")


def _tag(entry: Descriptor) -> str:
    name = entry.annotations.get(_REF_NAME) or entry.annotations.get(_FULL_NAME, "")
    return name.rpartition(":")[2] if ":" in name.rpartition("/")[2] else name
