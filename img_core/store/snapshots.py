"""Snapshots: which directories exist, what they build on, and which layer they hold."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.leases import leased
from img_core.files.locks import ensure_directory
from img_core.images.digests import chain_id
from img_core.spec.dataclass import dataclass
from img_core.spec.values import ChainId, DiffId
from img_core.store.database import SNAPSHOT

if TYPE_CHECKING:
    import sqlite3

    from img_core.files.leases import Leases
    from img_core.store.database import StateDatabase

__all__ = ["Snapshot", "Snapshots"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A finished snapshot. *directory* holds it; *parents* are the directories below it, lowest first.

    *diff_id* is known once its layer was written or unpacked, *chain_id* once those of all layers below are known too.
    """

    id: str
    directory: str
    parents: tuple[str, ...]
    created: float
    diff_id: DiffId | None = None
    chain_id: ChainId | None = None

    @property
    def directories(self) -> tuple[str, ...]:
        """The whole stack, lowest first: what children of this snapshot get as parents."""
        return (*self.parents, self.directory)


class Snapshots:
    """The snapshots that one snapshotter (*backend*) made under one id *mapping*; the two are never mixed."""

    def __init__(self, state: str, database: StateDatabase, backend: str, mapping: str, leases: Leases) -> None:
        self._leases = leases
        self._state = state
        self._directory = os.path.join(state, "snapshots", backend)
        self._database = database
        self._backend = backend
        self._mapping = mapping

    def get(self, identifier: str) -> Snapshot | None:
        """Return a snapshot, or None if it or one below it is gone, or another snapshotter or mapping made it."""
        row = self._database.one(
            "SELECT * FROM snapshot WHERE id = ? AND backend = ? AND mapping = ?",
            (identifier, self._backend, self._mapping),
        )
        return self._snapshot(row) if row else None

    def by_chain(self, chain: ChainId) -> Snapshot | None:
        """Return a snapshot whose stack of layers is *chain*, or None."""
        row = self._database.one(
            "SELECT * FROM snapshot WHERE chain_id = ? AND backend = ? AND mapping = ? ORDER BY created LIMIT 1",
            (chain, self._backend, self._mapping),
        )
        return self._snapshot(row) if row else None

    def find(self, parent: Snapshot | None, diff_id: DiffId) -> Snapshot | None:
        """Return a snapshot of the layer *diff_id* on the layers of *parent*, or None."""
        if chain := _chain(parent, diff_id):
            return self.by_chain(chain)
        assert parent is not None
        row = self._database.one(
            "SELECT * FROM snapshot WHERE parent = ? AND diff_id = ? ORDER BY created LIMIT 1", (parent.id, diff_id)
        )
        return self._snapshot(row) if row else None

    def commit(
        self, directory: str, parent: Snapshot | None, *, description: str, diff_id: DiffId | None = None
    ) -> Snapshot:
        """Keep the finished *directory* (it is renamed) as a new snapshot on *parent*."""
        ensure_directory(self._directory)
        name = os.urandom(12).hex()
        return self._insert(name, parent, description, diff_id, directory)

    def _insert(
        self, name: str, parent: Snapshot | None, description: str, diff_id: DiffId | None, moved_from: str = ""
    ) -> Snapshot:
        identifier = os.urandom(12).hex()
        now = time.time()
        chain = _chain(parent, diff_id)
        final = os.path.join(self._directory, name)

        def move_back() -> None:
            if moved_from and os.path.lexists(final):
                os.rename(final, moved_from)

        with self._database.transaction(undo=move_back) as cursor:
            if moved_from:  # in the transaction: a collector takes a directory without a row for garbage
                fs.rename(moved_from, final)
            cursor.execute(
                "INSERT INTO snapshot (id, directory, backend, mapping, parent, chain_id, diff_id, description, created, used, boot)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    identifier, name, self._backend, self._mapping, parent.id if parent else None, chain, diff_id,
                    description, now, now, self._database.boot,
                ),
            )  # fmt: skip
            self._leases.add(cursor, SNAPSHOT, identifier)
        return Snapshot(identifier, final, parent.directories if parent else (), now, diff_id, chain)

    def rebased(self, snapshot: Snapshot, parent: Snapshot | None) -> Snapshot | None:
        """Return what `rebase` made before, or None."""
        row = self._database.one(
            "SELECT * FROM snapshot WHERE directory = ? AND parent IS ?",
            (os.path.basename(snapshot.directory), parent.id if parent else None),
        )
        return self._snapshot(row) if row else None

    def rebase(self, snapshot: Snapshot, parent: Snapshot | None) -> Snapshot:
        """Return a snapshot that shows the directory of *snapshot* on *parent*; for snapshotters with independent layers only."""
        if found := self.rebased(snapshot, parent):
            return found
        row = self._database.one("SELECT diff_id FROM snapshot WHERE id = ?", (snapshot.id,))  # maybe known by now
        diff_id = DiffId(row["diff_id"]) if row and row["diff_id"] else None
        return self._insert(os.path.basename(snapshot.directory), parent, "linked layer", diff_id)

    def discard(self, identifier: str, aside: str) -> bool:
        """Forget a snapshot unless another process uses it or something is built on it, and move its directory to *aside*; tell whether."""
        with self._database.transaction() as cursor:
            row = cursor.execute("SELECT directory, backend FROM snapshot WHERE id = ?", (identifier,)).fetchone()
            if row is None or identifier in leased(cursor, self._state, without=self._leases.run)[SNAPSHOT]:
                return False
            others = "SELECT 1 FROM snapshot WHERE parent = ? OR (directory = ? AND id != ?)"
            if cursor.execute(others, (identifier, row["directory"], identifier)).fetchone():
                return False
            cursor.execute("DELETE FROM snapshot WHERE id = ?", (identifier,))
        with suppress(FileNotFoundError):  # a collector was faster: without a row it is garbage
            fs.rename(os.path.join(self._state, "snapshots", row["backend"], row["directory"]), aside)
        return True

    def set_diff_id(self, snapshot: Snapshot, diff_id: DiffId) -> None:
        """Record what layer *snapshot* turned out to be."""
        with self._database.transaction() as cursor:
            parent = cursor.execute(
                "SELECT p.chain_id AS chain, s.parent AS parent FROM snapshot s LEFT JOIN snapshot p ON p.id = s.parent WHERE s.id = ?",
                (snapshot.id,),
            ).fetchone()
            chain = None
            if parent is not None and (parent["parent"] is None or parent["chain"] is not None):
                chain = chain_id([ChainId(parent["chain"])] if parent["chain"] else [], diff_id)
            cursor.execute("UPDATE snapshot SET diff_id = ?, chain_id = ? WHERE id = ?", (diff_id, chain, snapshot.id))
            cursor.execute("UPDATE stack SET diff_id = ? WHERE layer = ?", (diff_id, snapshot.id))

    def _snapshot(self, row: sqlite3.Row) -> Snapshot | None:
        """Return the snapshot of *row*; from now on it stays as long as this process lives, and so do those below it."""
        if not self._leases.take(SNAPSHOT, row["id"]):
            return None
        stack = self._database.query(
            "WITH RECURSIVE below(directory, parent, depth) AS ("
            " SELECT directory, parent, 0 FROM snapshot WHERE id = ?"
            " UNION ALL SELECT s.directory, s.parent, below.depth + 1 FROM snapshot s JOIN below ON s.id = below.parent)"
            " SELECT directory FROM below ORDER BY depth DESC",
            (row["id"],),
        )
        directories = [os.path.join(self._directory, item["directory"]) for item in stack]
        if not os.path.isdir(directories[-1]):
            return None
        return Snapshot(
            row["id"], directories[-1], tuple(directories[:-1]), row["created"],
            DiffId(row["diff_id"]) if row["diff_id"] else None, ChainId(row["chain_id"]) if row["chain_id"] else None,
        )  # fmt: skip


def _chain(parent: Snapshot | None, diff_id: DiffId | None) -> ChainId | None:
    if diff_id is None:
        return None
    if parent is None:
        return chain_id([], diff_id)
    return chain_id([parent.chain_id], diff_id) if parent.chain_id else None
