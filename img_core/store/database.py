"""The metadata of a state directory: what is kept, by which names, and what running commands use of it.

Every row that promises a file is inserted after the file is in place. Rows are trusted across kill -9 at once, across a power loss only
after `synced` was set (the page cache survives a killed process, not a cut of power): see `img_core.store.durability`.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from img_core.files import fs, locks
from img_core.files.sqlite import DamagedError, Database, Purpose, Schema, Way, is_damage, set_aside
from img_core.store import leases

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["StateDatabase"]

_TABLES = """
CREATE TABLE blob (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, media_type TEXT NOT NULL, created REAL NOT NULL,
    boot TEXT NOT NULL, synced INTEGER NOT NULL DEFAULT 0, used REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE blob_reference (
    parent TEXT NOT NULL REFERENCES blob(digest) ON DELETE CASCADE,
    child TEXT NOT NULL REFERENCES blob(digest) ON DELETE CASCADE,
    PRIMARY KEY (parent, child)
) WITHOUT ROWID;
CREATE INDEX blob_reference_child ON blob_reference(child);
CREATE TABLE blob_origin (digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)) WITHOUT ROWID;
CREATE TABLE image (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES blob(digest), media_type TEXT NOT NULL, size INTEGER NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL, content_size INTEGER, replaced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE layer (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blob(digest) ON DELETE CASCADE, PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE INDEX layer_digest ON layer(digest);
CREATE TABLE snapshot (
    id TEXT PRIMARY KEY, directory TEXT NOT NULL, backend TEXT NOT NULL, mapping TEXT NOT NULL, parent TEXT REFERENCES snapshot(id),
    chain_id TEXT, diff_id TEXT, description TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL,
    boot TEXT NOT NULL, synced INTEGER NOT NULL DEFAULT 0, size INTEGER
) WITHOUT ROWID;
CREATE INDEX snapshot_chain ON snapshot(chain_id, backend, mapping);
CREATE INDEX snapshot_parent ON snapshot(parent);
CREATE INDEX snapshot_directory ON snapshot(directory);
CREATE TABLE cache_mount (
    name TEXT PRIMARY KEY, description TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE stack (
    id TEXT PRIMARY KEY, parent TEXT REFERENCES stack(id), layer TEXT NOT NULL, diff_id TEXT,
    snapshot TEXT REFERENCES snapshot(id) ON DELETE SET NULL, created REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX stack_parent ON stack(parent);
CREATE INDEX stack_layer ON stack(layer);
CREATE INDEX stack_snapshot ON stack(snapshot);
CREATE TABLE step (
    key TEXT NOT NULL, definition TEXT NOT NULL, identity TEXT NOT NULL, stack TEXT NOT NULL REFERENCES stack(id), changes TEXT NOT NULL,
    mapping TEXT NOT NULL, platform TEXT NOT NULL, description TEXT NOT NULL, inputs TEXT NOT NULL, seconds REAL NOT NULL,
    made REAL NOT NULL, PRIMARY KEY (key, definition, stack)
) WITHOUT ROWID;
CREATE INDEX step_stack ON step(stack);
CREATE TABLE pin (
    reference TEXT NOT NULL, platform TEXT NOT NULL, top TEXT NOT NULL, manifest TEXT NOT NULL, checked REAL NOT NULL,
    PRIMARY KEY (reference, platform)
) WITHOUT ROWID;
CREATE TABLE tree_digest (
    identity TEXT NOT NULL, files TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (identity, files)
) WITHOUT ROWID;
CREATE TABLE file_digest (
    scope TEXT NOT NULL, inode INTEGER NOT NULL, device INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (scope, device, inode)
) WITHOUT ROWID
"""

_LEASES = "CREATE TABLE leases.lease (run TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (run, kind, id)) WITHOUT ROWID"

#: That of release 0.1.0; earlier versions were in no release.
_SCHEMA = Schema(_TABLES, {}, first=8)


class StateDatabase(Database):
    """The database of one state directory; the leases are a second file of the same connection.

    *boot* names this boot of the machine, see `img_core.files.boots`. *private*: nobody else knows of it yet. *notice* gets one-line
    messages.
    """

    def __init__(
        self,
        path: str,
        boot: str,
        *,
        purpose: Purpose = Purpose.WRITE,
        private: bool = False,
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.boot = boot
        self._private = private
        self._notice = notice
        super().__init__(path, _SCHEMA, purpose=purpose)

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
            with locks.lock(os.path.dirname(self.path), "leases"):
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
                leases.hold_everything(cursor, os.path.dirname(self.path))

    def _detach(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.execute("DETACH leases")

    def _remove_old_leases(self, current: str) -> None:
        directory, name = os.path.split(self.path)
        for entry in os.listdir(directory) if directory else []:
            if entry.startswith(f"{name}-leases-") and not entry.startswith(os.path.basename(current)):
                with suppress(OSError):
                    fs.unlink(os.path.join(directory, entry))
