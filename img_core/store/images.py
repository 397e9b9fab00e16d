"""Image names, and what belongs to an image."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from img_core.files import fs
from img_core.files.locks import ensure_directory
from img_core.files.places import names_in
from img_core.images import oci
from img_core.images.contents import ImageContent, chosen_content, content_size, images_behind
from img_core.images.kept import Image, check_pin
from img_core.images.reference import Reference
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, NotFoundError
from img_core.spec.values import Descriptor, Digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from img_core.files.sqlite import Database
    from img_core.spec.values import Platform
    from img_core.store.blobs import Blobs

__all__ = ["Images", "Note"]


@dataclass(frozen=True, slots=True)
class Note:
    """What a name means, as noted beside the database, and the repositories of layers that were not kept."""

    name: str
    descriptor: Descriptor
    origins: Mapping[Digest, Sequence[str]]

    @classmethod
    def read(cls, path: str) -> Note:
        """Read a note; what is wrong with it shows as one of many errors."""
        with fs.open_as_named(path) as file:
            note = oci.load_json(file.read(oci.DOCUMENT_LIMIT), name=path)
        origins = {Digest(digest): tuple(map(str, places)) for digest, places in (note.get("origins") or {}).items()}
        return cls(str(note["name"]), Descriptor(note["mediaType"], Digest(note["digest"]), int(note["size"])), origins)


class Images:
    """Names of images in one state directory.

    What is listed is complete: its documents are here, and each layer is, or is known to be in the registry of a base image.
    """

    def __init__(self, state: str, database: Database, blobs: Blobs) -> None:
        self._names = os.path.join(state, "names")
        self._database = database
        self._blobs = blobs

    def list(self) -> list[Image]:
        """Return all images, by name."""
        return [_image(row) for row in self._database.query("SELECT * FROM image ORDER BY name")]

    def find(self, name: str) -> Image | None:
        """Return the image called *name* (normalised, with tag), or None.

        A name with a digest means the image of that digest in that repository, whatever else was stored under it.
        """
        row = self._database.one("SELECT * FROM image WHERE name = ?", (name,))
        repository, at, digest = name.partition("@")
        if at and (row is None or row["digest"] != digest):
            return self._pinned(repository, digest)
        return _image(row) if row else None

    def _pinned(self, repository: str, digest: str) -> Image | None:
        """Return an image of *digest* with another name in the repository of the name *repository*."""
        wanted = Reference.parse(repository).name
        for row in self._database.query("SELECT * FROM image WHERE digest = ? ORDER BY name", (digest,)):
            image = _image(row)
            if not image.is_untagged and Reference.parse(image.name).name == wanted:
                return image
        return None

    def with_digest(self, digest: str) -> Image | None:
        """Return an image that means *digest*, whatever its name, or None."""
        row = self._database.one("SELECT * FROM image WHERE digest = ? ORDER BY name", (digest,))
        return _image(row) if row else None

    def get(self, name: str, shown: str = "") -> Image:
        """Return the image called *name*. Raises NotFoundError that says *shown*, the name as the user typed it."""
        image = self.find(name)
        if image is None:
            raise NotFoundError(f'image "{fs.show(shown or name)}": not found')
        return image

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let *name* mean *descriptor*. Raises NotFoundError unless each blob that it references is kept, or a layer with known origins.

        What the name meant before stays, without a name if it has no other. Raises UsageError for a name with another digest.
        The caller syncs the file system before: see `Store.tag`.
        """
        check_pin(name, descriptor)
        before = self._before(name, descriptor)
        with self._naming(name, descriptor) as (cursor, row):
            cursor.execute(
                "INSERT INTO image (name, digest, media_type, size, content_size, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, media_type = excluded.media_type,"
                " size = excluded.size, content_size = excluded.content_size, updated = excluded.updated",
                row,
            )
            if cursor.execute("DELETE FROM image WHERE name = ?", (descriptor.digest,)).rowcount:  # it has a name now
                self._remove_note(descriptor.digest)
            if before is not None:
                self._keep_replaced(cursor, before)

    def _before(self, name: str, descriptor: Descriptor) -> tuple[Image, Mapping[Digest, Sequence[str]]] | None:
        """Return the image that loses *name* to *descriptor*, and the origins of its layers that are not kept; None if it need not stay."""
        row = self._database.one("SELECT * FROM image WHERE name = ? AND digest <> ?", (name, descriptor.digest))
        if row is None:
            return None
        image = _image(row)
        try:
            return image, self.require_complete(image.descriptor)[1]
        except ImgError:  # damaged: not worth keeping
            return None

    def _keep_replaced(self, cursor: sqlite3.Cursor, before: tuple[Image, Mapping[Digest, Sequence[str]]]) -> None:
        """Keep an image whose name went to another one under its id, unless it has another name."""
        image, left = before
        target = image.descriptor
        if cursor.execute("SELECT 1 FROM image WHERE digest = ?", (target.digest,)).fetchone():
            return
        self._write_note(target.digest, target, left)
        cursor.execute(
            "INSERT INTO image (name, digest, media_type, size, content_size, created, updated, replaced)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
            (*(target.digest,) * 2, target.media_type, target.size, image.content_size, image.created, time.time()),
        )

    def keep(self, descriptor: Descriptor) -> None:
        """Keep the image *descriptor* without a name, unless it has one. Raises NotFoundError as `tag` does."""
        known = self.with_digest(descriptor.digest)
        if known is not None and not known.replaced:
            if not known.is_untagged:
                self._remove_note(descriptor.digest)  # of a command that was killed
            return
        with self._naming(descriptor.digest, descriptor) as (cursor, row):
            cursor.execute(
                "INSERT INTO image (name, digest, media_type, size, content_size, created, updated)"
                " SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM image WHERE digest = ?)",
                (*row, descriptor.digest),
            )
            cursor.execute("UPDATE image SET replaced = 0 WHERE name = ?", (descriptor.digest,))

    def restore(self, note: Note) -> None:
        """Take what was noted beside the database into it. Raises NotFoundError as `tag` does."""
        if note.name == note.descriptor.digest:
            self.keep(note.descriptor)
        else:
            self.tag(note.name, note.descriptor)

    @contextmanager
    def _naming(self, name: str, descriptor: Descriptor) -> Iterator[tuple[sqlite3.Cursor, tuple[Any, ...]]]:
        """Give a transaction and the values of the row, in the order of the table; note beside the database what *name* means."""
        contents, left = self.require_complete(descriptor)
        size = content_size(contents)
        now = time.time()
        with self._database.transaction() as cursor:
            yield cursor, (name, descriptor.digest, descriptor.media_type, descriptor.size, size, now, now)
            # Last and here, so that two who give the same name leave a note of the one whose row stays.
            self._write_note(name, descriptor, left)

    def remove(self, name: str) -> bool:
        """Forget *name* (of an image without a name: its id); return whether it was there. Content stays until it is pruned."""
        with self._database.transaction() as cursor:
            return self.forget(cursor, name)

    def forget(self, cursor: sqlite3.Cursor, name: str) -> bool:
        """Like `remove`, within the transaction of *cursor*."""
        removed = cursor.execute("DELETE FROM image WHERE name = ?", (name,)).rowcount > 0
        # Before the commit: a note that outlives its row would bring the name back when the database is rebuilt.
        self._remove_note(name)
        return removed

    def _remove_note(self, name: str) -> None:
        with suppress(FileNotFoundError):
            fs.unlink(self._note_path(name))

    def contents(self, descriptor: Descriptor) -> Iterator[ImageContent]:
        """Give each complete image behind *descriptor* (a manifest or an index), in the index's order."""
        return images_behind(descriptor, self._blobs)

    def content(self, descriptor: Descriptor, platform: Platform | None, shown: str) -> ImageContent:
        """Return the image for *platform*, see `chosen_content`. Raises NotFoundError naming *shown* and what there is."""
        return chosen_content(list(self.contents(descriptor)), platform, shown)

    def content_size(self, image: Image) -> int | None:
        """Return the stored bytes of *image*, as noted when it was named; None if it is damaged."""
        if image.content_size is not None and os.path.exists(self._blobs.path(image.descriptor.digest)):
            return image.content_size
        try:
            return content_size(list(self.contents(image.descriptor)))
        except ImgError:
            return None

    def left(self, contents: Iterable[ImageContent]) -> dict[Digest, Sequence[str]]:
        """Return the layers of *contents* that are not kept here, and the repositories that are known to have them (perhaps none)."""
        digests = dict.fromkeys(layer.digest for content in contents for layer in content.layers)
        return {digest: self._blobs.origins(digest) for digest in digests if not self._blobs.has(digest)}

    def require_complete(self, descriptor: Descriptor) -> tuple[Sequence[ImageContent], Mapping[Digest, Sequence[str]]]:
        """Return what is behind *descriptor*, and the layers that are only in registries. Raises NotFoundError, IntegrityError."""
        if not self._blobs.has(descriptor.digest):
            raise NotFoundError(f"blob {descriptor.digest}: not found")
        contents = list(self.contents(descriptor))
        if not contents and descriptor.media_type in oci.INDEX_TYPES:
            raise NotFoundError(f"no image of index {descriptor.digest} is kept")
        left = self.left(contents)
        for digest, origins in left.items():
            if not origins:
                raise NotFoundError(f"layer {digest} of {descriptor.digest}: not found")
        return contents, left

    def _note_path(self, name: str) -> str:
        return os.path.join(self._names, oci.digest(name.encode()).removeprefix("sha256:") + ".json")

    def _write_note(self, name: str, descriptor: Descriptor, left: Mapping[Digest, Sequence[str]]) -> None:
        """Write beside the database what *name* means; it is only read to rebuild the database after damage."""
        ensure_directory(self._names)
        note = {
            "name": name,
            "digest": descriptor.digest,
            "mediaType": descriptor.media_type,
            "size": descriptor.size,
            **({"origins": left} if left else {}),
        }
        fs.replace_file(self._note_path(name), oci.canonical_json(note))

    def rewrite_note(self, image: Image) -> None:
        """Write the note of an image anew. Raises NotFoundError, IntegrityError if it is not complete."""
        _contents, left = self.require_complete(image.descriptor)
        self._write_note(image.name, image.descriptor, left)

    def notes(self) -> tuple[Sequence[Note], Sequence[str]]:
        """Return what was noted beside the database, to rebuild it, and the paths of notes that are damaged."""
        found, damaged = [], []
        for entry in names_in(self._names):
            if not entry.endswith(".json"):
                continue
            path = os.path.join(self._names, entry)
            try:
                note = Note.read(path)
            except (OSError, ImgError, KeyError, TypeError, ValueError, AttributeError):
                damaged.append(path)
                continue
            if path != self._note_path(note.name):
                damaged.append(path)
            else:
                found.append(note)
        return found, damaged


def _image(row: sqlite3.Row) -> Image:
    descriptor = Descriptor(row["media_type"], Digest(row["digest"]), row["size"])
    return Image(
        row["name"], descriptor, row["created"], row["updated"], row["content_size"], replaced=bool(row["replaced"])
    )
