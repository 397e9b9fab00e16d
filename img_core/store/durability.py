"""What survives a cut of power: everything that was synced, and of the rest the images that are whole all the same.

No command waits for the disk. A row tells the boot it was written in, and counts until the next one; only `settle` makes it last longer.
It syncs the whole file system once, after the work, and only while nobody has much to write: else a later command does it. So a cut of
power loses what the last commands made, at most, and never a part of it: the first command after it reads each blob that was not synced,
keeps those that are what their digest says, and forgets images that lack something. Snapshots have no digest; they are made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from img_core.files import fs
from img_core.images import oci
from img_core.spec.errors import ImgError, IntegrityError, NotFoundError
from img_core.spec.values import Descriptor, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Set

    from img_core.images.kept import Image
    from img_core.store.blobs import Blobs
    from img_core.store.database import StateDatabase
    from img_core.store.images import Images

__all__ = ["recover", "settle"]

#: Dropped when they are older than the last boot and were never synced.
_UNSYNCED = (
    "DELETE FROM snapshot WHERE synced = 0 AND boot <> ?",
    "DELETE FROM blob WHERE synced = 0 AND boot <> ? AND digest NOT IN (SELECT digest FROM image)",
)


def settle(state: str, database: StateDatabase) -> bool:
    """Make all that the state directory *state* holds last, unless somebody would have to wait for that; return whether it does last.

    What other processes have finished by now is among it. Raises OSError for a disk that fails.
    """
    waiting = {
        table: database.query(
            f"SELECT {key} FROM {table} WHERE synced = 0 AND boot = ?",  # noqa: S608  # our own words
            (database.boot,),
        )
        for table, key in (("blob", "digest"), ("snapshot", "id"))
    }
    if not any(waiting.values()):
        return True
    if not fs.syncs_soon():
        return False
    with fs.opened_directory(state) as descriptor:
        fs.sync_filesystem(descriptor)
    with database.transaction() as cursor:
        cursor.executemany("UPDATE blob SET synced = 1 WHERE digest = ?", map(tuple, waiting["blob"]))
        cursor.executemany("UPDATE snapshot SET synced = 1 WHERE id = ?", map(tuple, waiting["snapshot"]))
    return True


def recover(database: StateDatabase, blobs: Blobs, images: Images, notice: Callable[[str], None]) -> None:
    """Drop what was written before this boot, was not synced, and is not whole; *notice* hears of images that are gone."""
    stale = _stale(database)
    if stale is None:
        return
    from img_core.store.records import forget_lost

    known = {Digest(row["digest"]) for row in database.query("SELECT digest FROM blob")}
    parts = {image.name: _parts(image, blobs, known) for image in images.list()}
    damaged = {digest for digest, blob in stale.items() if not _is_whole(blobs, blob)}
    lost = [name for name, part in parts.items() if _lacks_something(part, damaged, blobs)]
    with database.transaction() as cursor:
        for name in lost:
            images.forget(cursor, name)
        cursor.executemany(
            "UPDATE blob SET synced = 1 WHERE digest = ? AND synced = 0 AND boot <> ?",
            [(digest, database.boot) for digest in stale.keys() - damaged],
        )
        for statement in _UNSYNCED:
            cursor.execute(statement, (database.boot,))
        forget_lost(cursor)
    for name in lost:
        notice(f"image {fs.show(name)} was not yet on the disk when the machine stopped; it is gone")


def _stale(database: StateDatabase) -> Mapping[Digest, Descriptor] | None:
    """Return the blobs of earlier boots that were not synced; None if there are none, nor snapshots."""
    sql = "SELECT {} FROM {} WHERE synced = 0 AND boot <> ?"
    rows = database.query(sql.format("digest, size, media_type", "blob"), (database.boot,))
    if not rows and not database.one(sql.format("1", "snapshot") + " LIMIT 1", (database.boot,)):
        return None
    return {Digest(row["digest"]): Descriptor(row["media_type"], Digest(row["digest"]), row["size"]) for row in rows}


class _Parts(NamedTuple):
    """What an image consists of, as far as it is kept here."""

    documents: Set[Digest]
    layers: Set[Digest]


def _parts(image: Image, blobs: Blobs, known: Collection[Digest]) -> _Parts:
    documents: set[Digest] = set()
    layers: set[Digest] = set()
    pending = [image.descriptor]
    while pending:
        descriptor = pending.pop()
        if descriptor.digest in documents or descriptor.digest not in known:  # the latter: a platform that is not kept
            continue
        documents.add(descriptor.digest)
        try:
            document = oci.parse_manifest_or_index(
                blobs.read(descriptor.digest), name=descriptor.digest, media_type=descriptor.media_type
            )
        except ImgError:  # whether a cut of power did that is found out below
            continue
        if isinstance(document, oci.Index):
            pending += [
                child for child in document.manifests if child.media_type in oci.MANIFEST_TYPES | oci.INDEX_TYPES
            ]
        else:
            documents.add(document.config.digest)
            layers.update(layer.digest for layer in document.layers)
    return _Parts(documents, layers)


def _is_whole(blobs: Blobs, descriptor: Descriptor) -> bool:
    try:
        blobs.verify(descriptor)
    except (NotFoundError, IntegrityError, OSError):
        return False
    return True


def _lacks_something(parts: _Parts, damaged: Collection[Digest], blobs: Blobs) -> bool:
    """Tell whether an image is not complete without *damaged*; a layer that a registry has is there."""
    if not parts.documents.isdisjoint(damaged):
        return True
    return any(not blobs.origins(digest) for digest in parts.layers if digest in damaged)
