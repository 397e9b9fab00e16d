"""What takes the space of a state directory, piece by piece, and which of it could go."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from img_core.files import logs, partial
from img_core.files.leases import EVERYTHING, leased
from img_core.files.places import names_in
from img_core.files.treewalk import tree_size
from img_core.images import oci
from img_core.images.digests import ALGORITHMS, blob_path, is_digest
from img_core.images.document_graph import DocumentGraph
from img_core.spec.errors import StateError
from img_core.store.database import BLOB, CACHE_MOUNT, SNAPSHOT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from img_core.images.kept import Image
    from img_core.store.store import Store

__all__ = ["ABANDONED", "LOG", "SOURCE", "Piece", "Survey", "document_graph", "measured"]

#: A directory or file that nothing knows: left by a crash, or dropped after a power loss.
ABANDONED = "abandoned"
#: What a source of files noted to save time, e.g. what web servers said last; it may vanish at any time.
SOURCE = "source"
#: The log of a build.
LOG = "log"
#: where files of other users are ours to remove
_ROOTS = ("root", "full", "container")
_SNAPSHOT_LENGTH = 24  # of the names that we give to directories


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing that takes space. *kind* is a kind of lease, `SOURCE`, `LOG` or `ABANDONED`.

    *in_use* tells that an image or a running process needs it. *used* is the time of the last use, of it or of what builds on it, in
    seconds since 1970 UTC. *path* is what has to be removed; two snapshots may share one.
    """

    kind: str
    id: str
    description: str
    size: int
    created: float
    used: float
    parent: str = ""
    path: str = ""
    in_use: bool = False
    shared: bool = False
    document: bool = False
    partial: bool = False  #: a file that its writer holds locked: a blob that arrives, the log of a build

    @property
    def mutable(self) -> bool:
        """Whether steps write to it."""
        return self.kind == CACHE_MOUNT

    @property
    def is_internal(self) -> bool:
        """Whether it only helps to keep other things, or nobody needs it at all."""
        return self.document or self.kind in (ABANDONED, LOG, SOURCE)


@dataclass(frozen=True, slots=True)
class Survey:
    """All pieces, and what the documents of images and running processes name: *named* holds digests that are kept or not kept.

    *expendable* are the images that keep nothing.
    """

    pieces: tuple[Piece, ...]
    named: frozenset[str] = field(repr=False)
    expendable: tuple[Image, ...]

    @classmethod
    def take(
        cls,
        store: Store,
        cursor: sqlite3.Cursor,
        documents: DocumentGraph,
        *,
        expendable: Callable[[Image], bool],
        without_run: str = "",
    ) -> Survey:
        """Look at the state within the transaction of *cursor*; sizes of snapshots that nobody measured yet are 0."""
        held = leased(cursor, store.state, without=without_run)
        images = store.images.list()
        named = documents.closure([*(item.descriptor.digest for item in images if not expendable(item)), *held[BLOB]])
        shared = documents.closure(item.descriptor.digest for item in images)
        pieces = [
            *_blobs(cursor, store.state, named, shared),
            *_snapshots(cursor, store.state, held[SNAPSHOT], _removable(store.mapping), documents.chains(shared)),
            *_cache_mounts(cursor, store.state, held[CACHE_MOUNT]),
            *_sources(store.state),
            *_logs(store.state),
            *_abandoned(cursor, store.state),
        ]
        if held[EVERYTHING]:
            pieces = [replace(piece, in_use=True) for piece in pieces]
        return cls(tuple(pieces), frozenset(named), tuple(filter(expendable, images)))


def document_graph(store: Store) -> DocumentGraph:
    """Return which digests the documents in *store* name."""
    database = store.database

    def kept(digest: str) -> tuple[str, int] | None:
        row = database.one("SELECT media_type, size FROM blob WHERE digest = ?", (digest,))
        return (row["media_type"], row["size"]) if row else None

    def named(digest: str) -> list[str]:
        return [row["child"] for row in database.query("SELECT child FROM blob_reference WHERE parent = ?", (digest,))]

    return DocumentGraph(kept, named, store.blobs.path)


def _removable(mapping: str) -> frozenset[str]:
    """Return the id mappings whose files we can remove: those of other users need other users' ids."""
    return frozenset({*_ROOTS, "single", "none"} if mapping in _ROOTS else {mapping, "none", "single"})


def _blobs(cursor: sqlite3.Cursor, state: str, named: set[str], shared: set[str]) -> Iterator[Piece]:
    origins = {row["digest"]: row["repository"] for row in cursor.execute("SELECT digest, repository FROM blob_origin")}
    for row in cursor.execute("SELECT digest, size, media_type, created, used FROM blob ORDER BY created").fetchall():
        digest, origin = row["digest"], origins.get(row["digest"])
        document = oci.layer_compression(row["media_type"]) is None
        word = "document" if document else "layer"
        yield Piece(
            BLOB,
            digest,
            f"pulled from {origin}@{digest}" if origin else f"{word} {digest}",
            row["size"],
            row["created"],
            max(row["used"], row["created"]),
            path=os.path.join(state, blob_path(digest)) if is_digest(digest) else "",  # a damaged row has no file
            in_use=digest in named,
            shared=digest in shared,
            document=document,
        )


def _snapshots(
    cursor: sqlite3.Cursor, state: str, held: set[str], removable: frozenset[str], chains: set[str]
) -> list[Piece]:
    rows = cursor.execute("SELECT * FROM snapshot ORDER BY created").fetchall()
    parents = {row["id"]: row["parent"] for row in rows}
    used = {row["id"]: row["used"] for row in rows}
    in_use = set(held) | {row["id"] for row in rows if row["mapping"] not in removable}
    for identifier in _highest_first(parents):
        if parent := parents[identifier]:
            used[parent] = max(used[parent], used[identifier])
            if identifier in in_use:
                in_use.add(parent)
    seen: set[str] = set()
    pieces = []
    for row in rows:
        path = os.path.join(state, "snapshots", row["backend"], row["directory"])
        size = 0 if path in seen else row["size"] or 0
        seen.add(path)
        pieces.append(
            Piece(
                SNAPSHOT,
                row["id"],
                row["description"],
                size,
                row["created"],
                used[row["id"]],
                parent=parents[row["id"]] or "",
                path=path,
                in_use=row["id"] in in_use,
                shared=row["chain_id"] in chains,
            )
        )
    return pieces


def _highest_first(parents: Mapping[str, str | None]) -> list[str]:
    """Return the snapshots so that each comes before the one it is built on; times do not tell, for clocks jump."""
    below = {identifier: [parent] if parent else [] for identifier, parent in parents.items()}
    return [item for item in reversed([*TopologicalSorter(below).static_order()]) if item in parents]


def _cache_mounts(cursor: sqlite3.Cursor, state: str, held: set[str]) -> Iterator[Piece]:
    known = {row["name"]: row for row in cursor.execute("SELECT * FROM cache_mount").fetchall()}
    for name, path in _entries(state, "cache-mounts"):
        row = known.get(name)
        moment = os.lstat(path).st_mtime if row is None else 0.0
        description = row["description"] if row else "cached mount"
        created, used = (row["created"], row["used"]) if row else (moment, moment)
        yield Piece(CACHE_MOUNT, name, description, 0, created, used, path=path, in_use=name in held)


def _sources(state: str) -> Iterator[Piece]:
    for name, path in _entries(state, "sources"):
        moment = os.lstat(path).st_mtime  # of the last note: each replaces a file in there
        yield Piece(SOURCE, name, f"notes of the source `{name}`", 0, moment, moment, path=path)


def _logs(state: str) -> Iterator[Piece]:
    for log in logs.list_logs(state):
        path = os.path.join(state, logs.DIRECTORY, log.name)
        with suppress(FileNotFoundError):  # made room for another one just now
            used, in_use = os.lstat(path).st_mtime, partial.held(path)
            yield Piece(
                LOG, log.id, f"log of the build {log.id}", 0, log.created, used, path=path, in_use=in_use, partial=True
            )


def _abandoned(cursor: sqlite3.Cursor, state: str) -> Iterator[Piece]:
    """Give what lies where snapshots and blobs are kept, without a row, and what was damaged and set aside."""
    for name, path in (*_entries(state), *_entries(state, "names")):
        if ".damaged-" in name:
            yield replace(_abandoned_piece(path), description="damaged, and set aside")
    known = {(row["backend"], row["directory"]) for row in cursor.execute("SELECT backend, directory FROM snapshot")}
    for backend, directory in _entries(state, "snapshots"):
        for name, path in _entries(directory):
            if len(name) == _SNAPSHOT_LENGTH and (backend, name) not in known:
                yield _abandoned_piece(path)
    digests = {row["digest"] for row in cursor.execute("SELECT digest FROM blob")}
    for algorithm in ALGORITHMS:
        for name, path in _entries(state, "blobs", algorithm):
            digest = f"{algorithm}:{name}"
            if is_digest(digest) and digest not in digests:
                yield _abandoned_piece(path)
    for _, path in _entries(state, partial.DIRECTORY):
        with suppress(FileNotFoundError):  # its transfer ended just now
            piece, in_use = _abandoned_piece(path), partial.held(path)
            yield replace(piece, description="blob that arrived in part", in_use=in_use, partial=True)


def _abandoned_piece(path: str) -> Piece:
    info = os.lstat(path)
    name = os.path.basename(path)
    return Piece(ABANDONED, name, "left by an interrupted command", 0, info.st_mtime, info.st_mtime, path=path)


def _entries(*directory: str) -> list[tuple[str, str]]:
    """Return name and path of what is in a directory, by name; nothing if there is none."""
    path = os.path.join(*directory)
    return [(name, os.path.join(path, name)) for name in names_in(path)]


def measured(pieces: Iterable[Piece], store: Store, *, until: float = float("inf")) -> list[Piece]:
    """Return *pieces* with all sizes; those of snapshots are remembered, for they never change. Needs our user namespace.

    Those that nobody measured before the clock time.monotonic() says *until* are left out.
    """
    result, new, seen = [], [], set()
    known = {
        row["id"]: row["size"] for row in store.database.query("SELECT id, size FROM snapshot WHERE size IS NOT NULL")
    }
    for piece in pieces:
        if piece.kind == BLOB or piece.id in known or piece.path in seen:
            result.append(piece)
        elif time.monotonic() < until:
            size = tree_size(piece.path)
            result.append(replace(piece, size=size))
            if piece.kind == SNAPSHOT:
                new.append((size, piece.id))
        else:
            continue
        seen.add(piece.path)
    if new:
        # Who has no space for that measures again.
        with suppress(StateError), store.database.transaction() as cursor:
            cursor.executemany("UPDATE snapshot SET size = ? WHERE id = ?", new)
    return result
