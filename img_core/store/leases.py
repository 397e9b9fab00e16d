"""Leases: what running processes use, so that nobody collects it.

A lease is a row that names a run directory (`locks.RunDirectory`) and a thing. It counts as long as the run directory's owner lives, so
a killed process leaves nothing that must be cleaned up. Taking a lease and finding out whether the thing exists is one transaction, and so
is collecting: whoever gets a lease keeps the thing, and whoever comes too late sees that it is gone.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from img_core.files.locks import live_runs

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from img_core.files.locks import RunDirectory
    from img_core.files.sqlite import Database

__all__ = ["BLOB", "CACHE_MOUNT", "EVERYTHING", "SNAPSHOT", "Leases", "hold_everything", "leased"]

BLOB, SNAPSHOT, CACHE_MOUNT = "blob", "snapshot", "cache-mount"
EVERYTHING = "everything"  #: what a process uses whose leases were lost

#: Where a thing tells when it was used last.
_USED = {
    BLOB: ("SELECT used FROM blob WHERE digest = ?", "UPDATE blob SET used = ? WHERE digest = ?"),
    SNAPSHOT: ("SELECT used FROM snapshot WHERE id = ?", "UPDATE snapshot SET used = ? WHERE id = ?"),
    CACHE_MOUNT: ("SELECT used FROM cache_mount WHERE name = ?", "UPDATE cache_mount SET used = ? WHERE name = ?"),
}

#: How exact that is, in seconds: a build that is cached should not write for every step that it finds.
_USED_PRECISION = 600.0


class Leases:
    """The leases of this process. Without a run directory (a store that is only read) nothing is leased."""

    def __init__(self, database: Database, run: RunDirectory | None) -> None:
        self._database = database
        self.run = os.path.basename(run.path) if run else ""  #: the name of the run directory; empty: nothing is leased
        self._held: set[tuple[str, str]] = set()

    def take(self, kind: str, identifier: str) -> bool:
        """Keep a thing from being collected as long as we live, and note that it is used now; return whether it exists."""
        return self.take_all(kind, [identifier]) == 1

    def take_all(self, kind: str, identifiers: Collection[str]) -> int:
        """Do as `take` for several things in one transaction; return how many of them exist."""
        wanted = [identifier for identifier in identifiers if self.run and (kind, identifier) not in self._held]
        missing = 0
        if wanted:
            select, update = _USED[kind]
            with self._database.transaction() as cursor:
                for identifier in wanted:
                    row, now = cursor.execute(select, (identifier,)).fetchone(), time.time()
                    missing += row is None
                    if row is not None and now - row["used"] > _USED_PRECISION:
                        cursor.execute(update, (now, identifier))
                    if row is not None:
                        self.add(cursor, kind, identifier)
        return len(identifiers) - missing

    def add(self, cursor: sqlite3.Cursor, kind: str, identifier: str) -> None:
        """Lease a thing that is made in the transaction of *cursor*."""
        if self.run:
            cursor.execute("INSERT OR IGNORE INTO lease (run, kind, id) VALUES (?, ?, ?)", (self.run, kind, identifier))
            self._held.add((kind, identifier))

    def close(self) -> None:
        """Give all leases back."""
        if self._held:
            with self._database.transaction() as cursor:
                cursor.execute("DELETE FROM lease WHERE run = ?", (self.run,))
            self._held.clear()


def leased(cursor: sqlite3.Cursor, state: str, *, without: str = "") -> dict[str, set[str]]:
    """Return what living processes use, by kind; forget the leases of dead ones. *without* is a run directory whose leases do not count."""
    live = live_runs(state) - {os.path.basename(without)}
    found: dict[str, set[str]] = {BLOB: set(), SNAPSHOT: set(), CACHE_MOUNT: set(), EVERYTHING: set()}
    for row in cursor.execute("SELECT run, kind, id FROM lease").fetchall():
        if row["run"] in live:
            found.setdefault(row["kind"], set()).add(row["id"])
    return found


def hold_everything(cursor: sqlite3.Cursor, state: str) -> None:
    """Let every living process use everything: its leases were lost."""
    cursor.executemany(
        "INSERT OR IGNORE INTO lease (run, kind, id) VALUES (?, ?, '')", [(run, EVERYTHING) for run in live_runs(state)]
    )
