"""Garbage collection: removes what neither an image nor a running process needs.

Everything that decides is in one write transaction, which deletes the rows: who takes a lease later sees that the thing is gone, who took
one earlier keeps it. Files without a row are garbage, whoever made them; in a second transaction those that still have none move into our
run directory, from where they are removed at leisure. A crash at any point leaves garbage for the next time, and never a row without files.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from img_core.files import fs, partial
from img_core.files.leases import forget_dead
from img_core.spec.errors import UsageError
from img_core.store.database import BLOB, CACHE_MOUNT, SNAPSHOT
from img_core.store.records import forget_lost
from img_core.store.usage import ABANDONED, LOG, SOURCE, Piece, Survey, document_graph, measured

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from img_core.images.document_graph import DocumentGraph
    from img_core.images.kept import Image
    from img_core.store.store import Store

__all__ = ["Policy", "policies", "prune", "survey"]


_AT_ONCE = 100  # pieces that are moved aside before their files are removed


def _everything(_piece: Piece) -> bool:
    return True


def _no_image(_image: Image) -> bool:
    return False


def _untagged(image: Image) -> bool:
    return image.is_untagged


@dataclass(frozen=True, slots=True)
class Policy:
    """What to remove of that which can be removed.

    *matches* chooses pieces; *unused_seconds* spares what was used since; *keep_bytes* stops when no more than that is left in all,
    *unused_bytes* when no more than that is left of what could go; what was used longest ago goes first, and of that no more than
    *bite_bytes* (and one piece) at a time. *records* forgets as well what is remembered of references, contexts and steps. *spare_own*:
    what this process itself uses stays, too.

    *images* chooses images that need not stay: they are forgotten when something of them goes, or if the policy removes all that it can.
    *only_images* forgets just them and what only they have; the build cache stays.
    """

    matches: Callable[[Piece], bool] = _everything
    unused_seconds: float = 0.0
    keep_bytes: int = 0
    unused_bytes: int = 0
    bite_bytes: int = 0
    records: bool = False
    spare_own: bool = False
    images: Callable[[Image], bool] = _no_image
    only_images: bool = False

    @property
    def is_all(self) -> bool:
        """Whether everything that can be removed is."""
        return self == Policy(records=self.records, images=self.images)


#: The images of which a caller may say that they can go.
_IMAGES: dict[str, Callable[[Image], bool]] = {"none": _no_image, "untagged": _untagged, "all": lambda _image: True}


def policies(
    *, images: str, cache: str, records: bool, unused: float, keep: int, matching: Callable[[Piece], bool] | None
) -> Iterator[Policy]:
    """Give what is to be removed, one after the other, for what a caller wants to be pruned: see `Client.prune`. Raises UsageError."""
    for name, value, known in (("images", images, (*_IMAGES,)), ("cache", cache, ("all", "unshared"))):
        if value not in known:
            raise UsageError(f"`{name}` of prune() is `{value}`", hint=f"known: {', '.join(known)}")
    goes, spare = _IMAGES[images], cache == "unshared"
    if spare and (matching is None or unused):
        latest = time.time() - unused
        yield Policy(images=lambda image: goes(image) and image.created <= latest, only_images=True)
    policy = Policy(unused_seconds=unused, keep_bytes=keep, records=records, images=_no_image if spare else goes)
    matches = _unshared(matching) if spare else matching
    yield policy if matches is None else replace(policy, matches=matches)


def _unshared(matching: Callable[[Piece], bool] | None) -> Callable[[Piece], bool]:
    """Return what a piece has to pass if what images share, documents and logs stay."""

    def goes(piece: Piece) -> bool:
        kept = piece.shared or piece.document or piece.kind in (LOG, SOURCE)
        return (not kept or piece.kind == ABANDONED) and (matching is None or matching(piece))

    return goes


def survey(store: Store, *, until: float = float("inf")) -> list[Piece]:
    """Return everything that takes space, with sizes; call it inside our user namespace. Changes nothing but remembered sizes.

    Images without names count as not in use. What would have to be measured after *until* (by time.monotonic) is left out.
    """
    documents = document_graph(store)
    with store.database.transaction() as cursor:
        pieces = Survey.take(store, cursor, documents, expendable=_untagged, without_run=_own_run(store)).pieces
    return measured(pieces, store, until=until)


def prune(store: Store, policy: Policy, *, dry_run: bool = False, measure_until: float = float("inf")) -> list[Piece]:
    """Remove what *policy* says and nobody needs; return it. With *dry_run* nothing is removed.

    Needs our user namespace. Unless the policy spares it, what this process used itself does not count as used: call it in a process that
    is done with its store. Images that the policy does not choose, what they name, and whatever other running processes use survive. What
    could not be measured until *measure_until* (by time.monotonic) stays.
    """
    documents = document_graph(store)
    sizes = {(piece.kind, piece.id): piece.size for piece in survey(store, until=measure_until)}
    with store.database.transaction() as cursor:
        own = "" if policy.spare_own else _own_run(store)
        seen = Survey.take(store, cursor, documents, expendable=policy.images, without_run=own)
        if policy.only_images:
            policy = replace(policy, matches=_of_images(store, seen, documents))
        # What came meanwhile has no size yet; it is too young to be garbage.
        known = [
            replace(piece, size=sizes[piece.kind, piece.id]) for piece in seen.pieces if (piece.kind, piece.id) in sizes
        ]
        removed = _chosen(known, seen.pieces, policy, documents)
        if not dry_run:
            for image in _forgotten(seen, removed, policy, documents):
                store.images.forget(cursor, image.name)
            _delete_rows(cursor, store, removed, seen, policy)
    if not dry_run:
        # A few at a time: names in our run directory take space, too, which a full disk does not have.
        for start in range(0, len(removed), _AT_ONCE):
            for path in _move_aside(store, removed[start : start + _AT_ONCE]):
                fs.remove_tree(path)
        store.database.shrink()
    return removed


def _own_run(store: Store) -> str:
    return store.run.path if store.run else ""


# --------------------------------------------------------------------------------------------------------------- choosing


def _chosen(
    pieces: Iterable[Piece], everything: Sequence[Piece], policy: Policy, documents: DocumentGraph
) -> list[Piece]:
    """Return the pieces to remove; *pieces* have sizes, *everything* may hold some that came later."""
    oldest = time.time() - policy.unused_seconds if policy.unused_seconds else float("inf")
    candidates = [piece for piece in pieces if not piece.in_use and piece.used < oldest and policy.matches(piece)]
    if policy.keep_bytes or policy.unused_bytes:
        excess = (
            sum(piece.size for piece in pieces) - policy.keep_bytes
            if policy.keep_bytes
            else sum(piece.size for piece in candidates) - policy.unused_bytes
        )
        # Used longest ago first; among equals the newest, for it may be built on the others.
        candidates.sort(key=lambda piece: (piece.used, -piece.created))
        candidates = _until_small(candidates, min(excess, policy.bite_bytes) if policy.bite_bytes else excess)
    return _closed(candidates, everything, documents)


def _of_images(store: Store, seen: Survey, documents: DocumentGraph) -> Callable[[Piece], bool]:
    """Return a function that tells what belongs to the expendable images, and not to base images that builds remember."""
    pins = store.database.query("SELECT top, manifest FROM pin")
    ours = documents.closure(image.descriptor.digest for image in seen.expendable)
    ours -= documents.closure(digest for row in pins for digest in (row["top"], row["manifest"]))
    return lambda piece: piece.kind == BLOB and piece.id in ours


def _forgotten(seen: Survey, removed: Iterable[Piece], policy: Policy, documents: DocumentGraph) -> list[Image]:
    """Return the images that go: expendable ones of which something goes, or all of them."""
    lost = {piece.id for piece in removed if piece.kind == BLOB}
    every = policy.is_all or policy.only_images
    return [image for image in seen.expendable if every or documents.closure([image.descriptor.digest]) & lost]


def _until_small(candidates: Sequence[Piece], excess: int) -> list[Piece]:
    chosen: list[Piece] = []
    for piece in candidates:
        if excess <= 0:
            break
        chosen.append(piece)
        excess -= piece.size
    return chosen


def _closed(candidates: Sequence[Piece], everything: Sequence[Piece], documents: DocumentGraph) -> list[Piece]:
    """Leave out what something that stays is built on or names."""
    chosen = {(piece.kind, piece.id) for piece in candidates}
    staying = [piece for piece in everything if (piece.kind, piece.id) not in chosen]
    parents = {piece.id: piece.parent for piece in everything if piece.kind == SNAPSHOT}
    needed: set[str] = set()
    for piece in staying:
        parent = piece.parent if piece.kind == SNAPSHOT else ""
        while parent and parent not in needed:
            needed.add(parent)
            parent = parents.get(parent, "")
    named = documents.closure(piece.id for piece in staying if piece.kind == BLOB and piece.document)
    return [
        piece
        for piece in candidates
        if not (piece.kind == SNAPSHOT and piece.id in needed) and not (piece.kind == BLOB and piece.id in named)
    ]


# --------------------------------------------------------------------------------------------------------------- removing


#: How to find out that a thing has a row; what was abandoned never gets one.
_ROWS = {
    SNAPSHOT: "SELECT 1 FROM snapshot WHERE directory = ?",
    BLOB: "SELECT 1 FROM blob WHERE digest = ?",
    CACHE_MOUNT: "SELECT 1 FROM cache_mount WHERE name = ?",
}


def _delete_rows(cursor: sqlite3.Cursor, store: Store, removed: Sequence[Piece], seen: Survey, policy: Policy) -> None:
    cursor.execute("PRAGMA defer_foreign_keys = ON")  # parents and children go together, in any order
    _delete(cursor, "DELETE FROM snapshot WHERE id = ?", (piece.id for piece in removed if piece.kind == SNAPSHOT))
    _delete(cursor, "DELETE FROM blob WHERE digest = ?", (piece.id for piece in removed if piece.kind == BLOB))
    _delete(
        cursor, "DELETE FROM cache_mount WHERE name = ?", (piece.id for piece in removed if piece.kind == CACHE_MOUNT)
    )
    _forget(cursor, store, seen, policy)


def _move_aside(store: Store, removed: Sequence[Piece]) -> list[str]:
    """Move the files of *removed* that nobody took up meanwhile into our run directory; return where they are now."""
    assert store.run is not None
    moved: list[str] = []
    with store.database.transaction() as cursor:  # changes no row; it keeps everybody else from making one
        for piece in removed:
            statement = _ROWS.get(piece.kind)
            known_as = os.path.basename(piece.path) if piece.kind == SNAPSHOT else piece.id
            if statement and cursor.execute(statement, (known_as,)).fetchone():
                continue  # kept again, or another snapshot shows the same directory
            aside = store.run.new_path("garbage")
            try:
                if piece.partial and not partial.set_aside(piece.path, aside):
                    continue  # a transfer goes on with it
                if not piece.partial:
                    fs.rename(piece.path, aside)
            except FileNotFoundError:
                continue
            except OSError as err:
                if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                _remove_file(piece)
                continue
            moved.append(aside)
    return moved


def _remove_file(piece: Piece) -> None:
    """Remove a file where it is, for want of space for another name; directories have to wait until files have made some."""
    if not piece.partial and not os.path.isdir(piece.path):
        with suppress(FileNotFoundError):
            fs.unlink(piece.path)


def _delete(cursor: sqlite3.Cursor, statement: str, identifiers: Iterable[str]) -> None:
    cursor.executemany(statement, [(identifier,) for identifier in identifiers])


def _forget(cursor: sqlite3.Cursor, store: Store, seen: Survey, policy: Policy) -> None:
    """Drop rows that mean nothing any more, and with ``records`` those that only save time."""
    forget_dead(cursor, store.state)
    cursor.execute("DELETE FROM pin WHERE manifest NOT IN (SELECT digest FROM blob)")
    stored = {row["digest"] for row in cursor.execute("SELECT digest FROM blob").fetchall()}
    origins = {row["digest"] for row in cursor.execute("SELECT DISTINCT digest FROM blob_origin").fetchall()}
    _delete(cursor, "DELETE FROM blob_origin WHERE digest = ?", origins - stored - seen.named)
    if policy.is_all:  # who empties the cache wants all steps to run again, although images that stay hold their layers
        cursor.execute("DELETE FROM step WHERE stack IN (SELECT id FROM stack WHERE snapshot IS NULL)")
    forget_lost(cursor)
    if policy.is_all:
        cursor.execute("DELETE FROM tree_digest WHERE NOT EXISTS (SELECT 1 FROM step)")
    if policy.records:
        for table in ("pin", "tree_digest", "file_digest"):
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608  # our own words
