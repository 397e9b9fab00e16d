"""What depends on what among documents that are kept, be they sound or not."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.images import oci
from img_core.images.digests import chain_ids
from img_core.spec.errors import ImgError
from img_core.spec.values import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DocumentGraph"]

_DOCUMENTS = oci.MANIFEST_TYPES | oci.INDEX_TYPES


class DocumentGraph:
    """Which digests manifests and indexes name. Documents never change, so each is read once.

    *kept* gives media type and size of what is kept, *path* its file. *named* gives digests that something is known to name besides.
    """

    def __init__(
        self,
        kept: Callable[[str], tuple[str, int] | None],
        named: Callable[[str], Iterable[str]],
        path: Callable[[Digest], str],
    ) -> None:
        self._kept = kept
        self._named = named
        self._path = path
        self._children: dict[str, tuple[str, ...]] = {}

    def closure(self, roots: Iterable[str]) -> set[str]:
        """Return *roots* and everything that they name, directly or not."""
        found: set[str] = set()
        pending = list(roots)
        while pending:
            digest = pending.pop()
            if digest not in found:
                found.add(digest)
                pending.extend(self._named_by(digest))
        return found

    def chains(self, digests: Iterable[str]) -> set[str]:
        """Return the chain ids of the layers, each on those below it, of the images whose configs are among *digests*."""
        found: set[str] = set()
        for digest in digests:
            media_type, _size = self._kept(digest) or ("", 0)
            if media_type not in oci.CONFIG_TYPES:
                continue
            with suppress(OSError, ImgError), open(self._path(Digest(digest)), "rb") as file:
                found.update(chain_ids(oci.parse_config(file.read(oci.DOCUMENT_LIMIT), name=digest).diff_ids))
        return found

    def _named_by(self, digest: str) -> tuple[str, ...]:
        if digest not in self._children:
            self._children[digest] = (*self._read(digest), *self._named(digest))
        return self._children[digest]

    def _read(self, digest: str) -> tuple[str, ...]:
        kept = self._kept(digest)
        if kept is None or kept[1] > oci.DOCUMENT_LIMIT or kept[0] not in (*_DOCUMENTS, ""):
            return ()
        try:
            with open(self._path(Digest(digest)), "rb") as file:  # as it is: who reads through a store uses it
                content = file.read(oci.DOCUMENT_LIMIT)
            parsed = oci.parse_manifest_or_index(content, name=digest, media_type=kept[0])
        except (OSError, ImgError):
            return ()
        if isinstance(parsed, oci.Index):
            return tuple(item.digest for item in parsed.manifests)
        return (parsed.config.digest, *(layer.digest for layer in parsed.layers))
