"""The database itself: transactions that crash points lie in, upgrades of older files, and suspicion that outlives the process."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from img_core.files import fs
from img_core.files.sqlite import _ways
from img_core.files.sqlite._ways import Purpose, Way
from img_core.linux.spans import span
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["SUSPECT", "Database", "Schema", "set_aside"]

SUSPECT = "-suspect"  #: a file beside the database that asks who opens it next to check it
_SLACK = 64 << 10  # bytes that stay free within the database


@dataclass(frozen=True, slots=True)
class Schema:
    """Statements, separated by semicolons: *tables* makes version *first*, *upgrades* lead from each version to the next."""

    tables: str
    upgrades: Mapping[int, str]
    first: int = 1

    @property
    def version(self) -> int:
        """The version of a new database."""
        return len(self.upgrades) + self.first


class Database:
    """One connection, shared by the threads of this process. Raises StateError for every failure of the database itself.

    A row that promises a file is to be inserted after the file is in place; *purpose* decides how the file is opened.
    """

    def __init__(self, path: str, schema: Schema, *, purpose: Purpose = Purpose.WRITE) -> None:
        self.path = path
        self._schema = schema
        self._place: tuple[int, int] | None = None  # device and inode of the file, once it is open
        self._connection_lock = threading.RLock()
        with span("database", "open"), self._errors():
            self._connection, self._way = _ways.open_connection(path, purpose)
            try:
                self._prepare(purpose)
            except BaseException:
                self._connection.close()
                raise
        self._place = _place(path)

    def _prepare(self, purpose: Purpose) -> bool:
        """Bring an older file to our version; return whether this connection may write to it."""
        connection, ours = self._connection, self._schema.version
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # no file elsewhere: /tmp may be full, or an image's meanwhile
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > ours:
            raise StateError(
                f"database `{fs.show(self.path)}` has version {version}, newer than the {ours} that this img understands",
                hint="use the newer img, or another state directory with `-s`",
            )
        if 0 < version < self._schema.first:
            raise StateError(
                f"database `{fs.show(self.path)}` has version {version}, older than any that was released",
                hint="it stays as it is: take images out with `img save` of the img that made it, and name a new state directory with `-s`",
            )
        reading = purpose is Purpose.READ
        if self._way is Way.FROZEN or (reading and (version == ours or self._way is Way.ALONE)):
            return False
        shared = self._way is Way.SHARED
        if shared:
            # A new one holds nothing that a cut of power could take, so nobody waits for the disk; its first checkpoint syncs all of it.
            connection.execute(f"PRAGMA main.synchronous = {'NORMAL' if version else 'OFF'}")
            connection.execute("PRAGMA journal_mode = WAL")
        if version < ours:
            self._upgrade()
        if shared:
            connection.execute("PRAGMA main.synchronous = NORMAL")
        return not reading

    def _upgrade(self) -> None:
        """Bring an empty or older database to our version; each version adds to the one before."""
        with self.transaction() as cursor:
            version = cursor.execute("PRAGMA user_version").fetchone()[0]  # another process may have been first
            while version < self._schema.version:
                for statement in (self._schema.upgrades[version] if version else self._schema.tables).split(";"):
                    cursor.execute(statement)
                version = version + 1 if version else self._schema.first
            cursor.execute(f"PRAGMA user_version = {version}")

    @contextmanager
    def transaction(self, undo: Callable[[], None] | None = None) -> Iterator[sqlite3.Cursor]:
        """Run the block in one write transaction; a crash point lies before its commit.

        If it fails, *undo* takes back what the block did on the disk, while nobody else can write yet.
        """
        with span("database", "transaction"), self._connection_lock, self._errors(), fs.disk_errors(self.path):
            if self._way is Way.SHARED and self.path != ":memory:":
                _ways.require_space(self.path)
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                self._require_place()
                yield cursor
                fs.mutation("commit", self.path)
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have rolled it back already
                    if undo is not None:
                        with suppress(OSError):  # what stays is garbage without a row
                            undo()
                    cursor.execute("ROLLBACK")
                raise

    def _require_place(self) -> None:
        """Refuse to write to a file that was set aside: nobody would ever read it."""
        if self._place is not None and _place(self.path) != self._place:
            raise StateError(
                f"database `{fs.show(self.path)}` was replaced by another command", hint="run the command again"
            )

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:  # Any: what SQLite can bind
        """Return all rows of a read."""
        with self._connection_lock, self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:  # Any: what SQLite can bind
        """Return the first row of a read, or None."""
        rows = self.query(sql, parameters)
        return rows[0] if rows else None

    def problems(self) -> list[str]:
        """Return what SQLite finds wrong with the files of the database, as text."""
        found = []
        with self._connection_lock:
            for schema in self._attached():
                try:
                    rows = self._connection.execute(f"PRAGMA {schema}.integrity_check(10)").fetchall()
                    found += [f"{schema}: {row[0]}" for row in rows if row[0] != "ok"]
                except sqlite3.Error as err:
                    found.append(f"{schema}: {err}")
            try:
                rows = self._connection.execute("PRAGMA main.foreign_key_check").fetchall()
                found += [
                    f"main: a row of `{row['table']}` names one of `{row['parent']}` that is not there" for row in rows
                ]
            except sqlite3.Error as err:
                found.append(f"main: {err}")
        return found

    def _attached(self) -> list[str]:
        """Return the names of the databases of this connection, ours first."""
        try:
            names = [row["name"] for row in self._connection.execute("PRAGMA database_list")]
        except sqlite3.Error:
            names = []
        return list(dict.fromkeys(["main", *(name for name in names if name != "temp")]))

    def shrink(self) -> None:
        """Give pages that hold nothing back to the disk, if they are many; what prevents it now does no harm."""
        with self._connection_lock, suppress(sqlite3.Error, OSError):
            free, pages, size = (
                self._connection.execute(f"PRAGMA main.{name}").fetchone()[0]
                for name in ("freelist_count", "page_count", "page_size")
            )
            if free * size > _SLACK and free * 4 > pages:
                fs.mutation("vacuum", self.path)
                self._connection.execute("VACUUM main")
                self._connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connection."""
        with self._connection_lock:
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as err:
            if _ways.is_damage(err):
                self._suspect()
            raise _ways.state_error(err, self.path) from err

    def _suspect(self) -> None:
        if self.path != ":memory:":
            with suppress(OSError, StateError):
                fs.replace_file(self.path + SUSPECT, b"")


def set_aside(path: str, suffixes: Sequence[str]) -> str:
    """Rename the files *path* with *suffixes*, as far as they are there; return the new name of *path*."""
    aside = f"{path}.damaged-{int(time.time())}"
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            fs.rename(path + suffix, aside + suffix)
    return aside


def _place(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino
