"""The metadata database: SQLite in WAL mode, one file, opened by any number of processes at once.

Every row that promises a file is inserted after the file is in place. Rows are trusted across kill -9 at once, across a power loss only
after `synced` was set: a row written before the last boot and not synced is dropped when the database is opened
(the page cache survives a killed process, not a cut of power).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from img_core.kit import fs
from img_core.spec.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SCHEMA_VERSION", "Database"]

SCHEMA_VERSION = 6
BUSY_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE blob (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, media_type TEXT NOT NULL, created REAL NOT NULL,
    boot TEXT NOT NULL, synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE blob_reference (
    parent TEXT NOT NULL REFERENCES blob(digest) ON DELETE CASCADE,
    child TEXT NOT NULL REFERENCES blob(digest) ON DELETE CASCADE,
    PRIMARY KEY (parent, child)
) WITHOUT ROWID;
CREATE INDEX blob_reference_child ON blob_reference(child);
CREATE TABLE image (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES blob(digest), media_type TEXT NOT NULL, size INTEGER NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE layer (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blob(digest) ON DELETE CASCADE, PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE INDEX layer_digest ON layer(digest);
CREATE TABLE snapshot (
    id TEXT PRIMARY KEY, directory TEXT NOT NULL, backend TEXT NOT NULL, mapping TEXT NOT NULL, parent TEXT REFERENCES snapshot(id),
    chain_id TEXT, diff_id TEXT, description TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL,
    boot TEXT NOT NULL, synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX snapshot_chain ON snapshot(chain_id, backend, mapping);
CREATE INDEX snapshot_parent ON snapshot(parent);
CREATE INDEX snapshot_directory ON snapshot(directory);
CREATE TABLE step (
    key TEXT NOT NULL, backend TEXT NOT NULL, mapping TEXT NOT NULL, identity TEXT NOT NULL,
    snapshot TEXT NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE, used REAL NOT NULL,
    PRIMARY KEY (key, backend, mapping)
) WITHOUT ROWID;
CREATE TABLE pin (
    reference TEXT NOT NULL, platform TEXT NOT NULL, top TEXT NOT NULL, manifest TEXT NOT NULL, checked REAL NOT NULL,
    PRIMARY KEY (reference, platform)
) WITHOUT ROWID;
CREATE TABLE tree_digest (key TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE file_digest (
    scope TEXT NOT NULL, inode INTEGER NOT NULL, device INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (scope, device, inode)
) WITHOUT ROWID;
"""

#: What a database of an older version lacks: version to statements that lead to the next one.
_UPGRADES = {
    1: """
CREATE TABLE blob_origin (digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)) WITHOUT ROWID;
CREATE TABLE lease (
    run TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (run, kind, id)
) WITHOUT ROWID
""",
    2: """
ALTER TABLE blob ADD COLUMN used REAL NOT NULL DEFAULT 0;
ALTER TABLE snapshot ADD COLUMN size INTEGER;
CREATE TABLE cache_mount (
    name TEXT PRIMARY KEY, description TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID
""",
    3: "ALTER TABLE image ADD COLUMN content_size INTEGER",
    4: "DROP TABLE lease",  # they have a file of their own since
    # Older records do not tell steps apart that differ in what is not in their key: each step has to run once more.
    5: """
DROP TABLE step;
CREATE TABLE step (
    key TEXT NOT NULL, definition TEXT NOT NULL, backend TEXT NOT NULL, mapping TEXT NOT NULL, identity TEXT NOT NULL,
    snapshot TEXT NOT NULL REFERENCES snapshot(id) ON DELETE CASCADE, made REAL NOT NULL,
    PRIMARY KEY (key, backend, mapping, definition)
) WITHOUT ROWID;
DROP TABLE tree_digest;
CREATE TABLE tree_digest (
    identity TEXT NOT NULL, files TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (identity, files)
) WITHOUT ROWID
""",
}

_LEASES = "CREATE TABLE leases.lease (run TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (run, kind, id)) WITHOUT ROWID"

#: Dropped when they are older than the last boot and were never synced; children first, for the foreign keys.
_UNSYNCED = (
    "DELETE FROM step WHERE snapshot IN (SELECT id FROM snapshot WHERE synced = 0 AND boot <> ?)",
    "DELETE FROM snapshot WHERE synced = 0 AND boot <> ?",
    "DELETE FROM blob WHERE synced = 0 AND boot <> ? AND digest NOT IN (SELECT digest FROM image)",
)


class Database:
    """One connection, shared by the threads of this process. Raises StateError for every failure of the database itself.

    *boot* names this boot of the machine, see `img_core.store.boots`.
    """

    def __init__(self, path: str, boot: str) -> None:
        self.path = path
        self.boot = boot
        self._connection_lock = threading.RLock()
        self.read_only = os.path.exists(path) and not os.access(path, os.W_OK)
        with self._errors():
            self._connection = self._connect()
            self._prepare()

    def _connect(self) -> sqlite3.Connection:
        # `immutable` lets SQLite read a WAL database in a directory where it may not make the -shm file
        name = f"file:{_uri_path(self.path)}?mode=ro&immutable=1" if self.read_only else self.path
        connection = sqlite3.connect(
            name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=self.read_only
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA foreign_keys = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StateError(
                f"state database `{fs.show(self.path)}` has version {version}, newer than the {SCHEMA_VERSION} that this img understands",
                hint="use the newer img, or another state directory with `-s`",
            )
        if self.read_only:
            connection.execute("ATTACH ':memory:' AS leases")
            connection.execute(_LEASES)
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < SCHEMA_VERSION:
            self._upgrade()
        self._attach_leases()
        stale = connection.execute(
            "SELECT 1 FROM snapshot WHERE synced = 0 AND boot <> ? LIMIT 1", (self.boot,)
        ).fetchone()
        stale = (
            stale
            or connection.execute("SELECT 1 FROM blob WHERE synced = 0 AND boot <> ? LIMIT 1", (self.boot,)).fetchone()
        )
        if stale:
            with self.transaction() as cursor:
                for statement in _UNSYNCED:
                    cursor.execute(statement, (self.boot,))

    def _attach_leases(self) -> None:
        """Open the leases, which mean nothing after the next boot: a file that is never synced, so that a cached build waits for no disk.

        They are a database of the same connection, because whether a thing exists and who uses it must be one transaction.
        """
        path = ":memory:" if self.path == ":memory:" else f"{self.path}-leases-{self.boot[:8]}"
        self._connection.execute("ATTACH ? AS leases", (path,))
        self._connection.execute("PRAGMA leases.synchronous = OFF")
        self._connection.execute("PRAGMA leases.journal_mode = PERSIST")
        if not self._connection.execute("SELECT 1 FROM leases.sqlite_master").fetchone():
            with self.transaction() as cursor:
                if not cursor.execute("SELECT 1 FROM leases.sqlite_master").fetchone():
                    cursor.execute(_LEASES)
            self._remove_old_leases(path)

    def _remove_old_leases(self, current: str) -> None:
        directory, name = os.path.split(self.path)
        for entry in os.listdir(directory) if directory else []:
            if entry.startswith(f"{name}-leases-") and not entry.startswith(os.path.basename(current)):
                with suppress(OSError):
                    fs.unlink(os.path.join(directory, entry))

    def _upgrade(self) -> None:
        """Bring an empty or older database to our version; each version adds to the one before."""
        with self.transaction() as cursor:
            version = cursor.execute("PRAGMA user_version").fetchone()[0]  # another process may have been first
            while version < SCHEMA_VERSION:
                for statement in (_UPGRADES[version] if version else _SCHEMA).split(";"):
                    cursor.execute(statement)
                version += 1
            cursor.execute(f"PRAGMA user_version = {version}")

    @contextmanager
    def transaction(self, undo: Callable[[], None] | None = None) -> Iterator[sqlite3.Cursor]:
        """Run the block in one write transaction; a crash point lies before its commit.

        If it fails, *undo* takes back what the block did on the disk, while nobody else can write yet.
        """
        with self._connection_lock, self._errors(), fs.disk_errors(self.path):
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
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

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:  # Any: what SQLite can bind
        """Return all rows of a read."""
        with self._connection_lock, self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:  # Any: what SQLite can bind
        """Return the first row of a read, or None."""
        rows = self.query(sql, parameters)
        return rows[0] if rows else None

    def close(self) -> None:
        """Close the connection."""
        with self._connection_lock:
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as err:
            raise _operational_error(err, self.path) from err
        except sqlite3.DatabaseError as err:
            if isinstance(err, sqlite3.IntegrityError):
                raise
            raise DamagedError(
                f"state database `{fs.show(self.path)}` is damaged: {err}",
                hint="run the command again: the database is set aside and rebuilt from the stored images",
            ) from err


class DamagedError(StateError):
    """The database file is not usable any more."""


def _operational_error(err: sqlite3.OperationalError, path: str) -> StateError:
    code = getattr(err, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StateError(
            f"no space left on device: `{fs.show(path)}`", hint="free some space and run the command again"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateError(
            f"state database `{fs.show(path)}` was busy for {BUSY_SECONDS:.0f} s", hint="is another img process stuck?"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StateError(
            f"cannot open the state database `{fs.show(path)}`", hint="is the state directory writable for you?"
        )
    return StateError(f"state database `{fs.show(path)}`: {err}")


def _uri_path(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
