"""Leases: what running processes use, so that nobody collects it.

A lease is a row that names a run directory (`locks.RunDirectory`) and a thing. It counts as long as the run directory's owner lives, so
a killed process leaves nothing that must be cleaned up. Taking a lease and finding out whether the thing exists is one transaction, and so
is collecting: whoever gets a lease keeps the thing, and whoever comes too late sees that it is gone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.locks import live_runs, lock
from img_core.files.sqlite import DamagedError, Database, Purpose, Way, is_damage, set_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from img_core.files.locks import RunDirectory
    from img_core.files.sqlite import Schema

__all__ = ["EVERYTHING", "Leases", "LeasingDatabase", "forget_dead", "leased"]

EVERYTHING = "everything"  #: what a process uses whose leases were lost

#: How exact the time of the last use is, in seconds: a build that is cached should not write for every step that it finds.
_USED_PRECISION = 600.0

_LEASES = "CREATE TABLE leases.lease (run TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (run, kind, id)) WITHOUT ROWID"


class LeasingDatabase(Database):
    """A database whose things can be leased; the leases are a second file of the same connection.

    *boot* names this boot of the machine, see `img_core.files.boots`. *private*: nobody else knows of it yet. *notice* gets one-line
    messages.
    """

    def __init__(
        self,
        path: str,
        schema: Schema,
        boot: str,
        *,
        purpose: Purpose = Purpose.WRITE,
        private: bool = False,
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.boot = boot
        self._private = private
        self._notice = notice
        super().__init__(path, schema, purpose=purpose)

    def _prepare(self, purpose: Purpose) -> bool:
        writable = super()._prepare(purpose)
        if not writable or self._private or self._way is not Way.SHARED or self.path == ":memory:":
            self._attach(":memory:")
        else:
            self._attach_leases(f"{self.path}-leases-{self.boot[:8]}")
        return writable

    def _attach(self, path: str) -> None:
        """Open the leases, which mean nothing after the next boot: a file that is never synced, so that a cached build waits for no disk.

        They are a database of the same connection, because whether a thing exists and who uses it must be one transaction.
        """
        self._connection.execute("ATTACH ? AS leases", (path,))
        if path != ":memory:":
            self._connection.execute("PRAGMA leases.synchronous = OFF")
            self._connection.execute("PRAGMA leases.journal_mode = PERSIST")
        if not self._connection.execute("SELECT 1 FROM leases.sqlite_master").fetchone():
            with self.transaction() as cursor:
                if not cursor.execute("SELECT 1 FROM leases.sqlite_master").fetchone():
                    cursor.execute(_LEASES)
        self._connection.execute("SELECT run, kind, id FROM leases.lease LIMIT 1").fetchone()

    def _attach_leases(self, path: str) -> None:
        is_new = not os.path.exists(path)
        try:
            self._attach(path)
        except (sqlite3.Error, DamagedError) as err:
            if isinstance(err, sqlite3.Error) and not is_damage(err):
                raise
            with lock(os.path.dirname(self.path), "leases"):
                self._replace_leases(path)
        if is_new:
            self._remove_old_leases(path)

    def _replace_leases(self, path: str) -> None:
        """Set the damaged file *path* aside; until then it is not known what running commands use, so they use everything."""
        try:
            self._detach()
            self._attach(path)  # another process was first
        except (sqlite3.Error, DamagedError):
            self._detach()
            aside = set_aside(path, ("-journal", ""))
            self._notice(f"the notes of what running commands use were damaged; they are kept as `{fs.show(aside)}`")
            self._attach(path)
            with self.transaction() as cursor:
                _hold_everything(cursor, os.path.dirname(self.path))

    def _detach(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("DETACH leases")

    def _remove_old_leases(self, current: str) -> None:
        directory, name = os.path.split(self.path)
        for entry in os.listdir(directory) if directory else []:
            if entry.startswith(f"{name}-leases-") and not entry.startswith(os.path.basename(current)):
                with suppress(OSError):
                    fs.unlink(os.path.join(directory, entry))


class Leases:
    """The leases of this process. Without a run directory (of who only reads) nothing is leased.

    *tables* tells by kinds of things in which table they are, and what is the key there; its column ``used`` has the time of the last use,
    in seconds since 1970 UTC.
    """

    def __init__(self, database: Database, run: RunDirectory | None, tables: Mapping[str, tuple[str, str]]) -> None:
        self._database = database
        self._tables = tables
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
            table, key = self._tables[kind]
            select = f"SELECT used FROM {table} WHERE {key} = ?"  # noqa: S608  # words of our caller
            update = f"UPDATE {table} SET used = ? WHERE {key} = ?"  # noqa: S608
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
    found: dict[str, set[str]] = defaultdict(set)
    for row in cursor.execute("SELECT run, kind, id FROM lease").fetchall():
        if row["run"] in live:
            found[row["kind"]].add(row["id"])
    return found


def forget_dead(cursor: sqlite3.Cursor, state: str) -> None:
    """Forget the leases of processes that are gone."""
    dead = {row["run"] for row in cursor.execute("SELECT DISTINCT run FROM lease").fetchall()} - live_runs(state)
    cursor.executemany("DELETE FROM lease WHERE run = ?", [(run,) for run in dead])


def _hold_everything(cursor: sqlite3.Cursor, state: str) -> None:
    """Let every living process use everything: its leases were lost."""
    cursor.executemany(
        "INSERT OR IGNORE INTO lease (run, kind, id) VALUES (?, ?, '')", [(run, EVERYTHING) for run in live_runs(state)]
    )
