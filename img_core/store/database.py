"""The metadata of a state directory: what is kept, by which names, and what running commands use of it.

Every row that promises a file is inserted after the file is in place. Rows are trusted across kill -9 at once, across a power loss only
after `synced` was set (the page cache survives a killed process, not a cut of power): see `img_core.store.durability`.
"""

from __future__ import annotations

from typing import Any

from img_core.files.leases import LeasingDatabase
from img_core.files.sqlite import Schema

__all__ = ["BLOB", "CACHE_MOUNT", "LEASED", "SNAPSHOT", "StateDatabase"]

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

#: The kinds of things that can be leased, and where each is.
BLOB, SNAPSHOT, CACHE_MOUNT = "blob", "snapshot", "cache-mount"
LEASED = {BLOB: ("blob", "digest"), SNAPSHOT: ("snapshot", "id"), CACHE_MOUNT: ("cache_mount", "name")}

#: That of release 0.1.0; earlier versions were in no release.
_SCHEMA = Schema(_TABLES, {}, first=8)


class StateDatabase(LeasingDatabase):
    """The database of one state directory; arguments as `LeasingDatabase`."""

    def __init__(self, path: str, boot: str, **more: Any) -> None:  # Any: see there
        super().__init__(path, _SCHEMA, boot, **more)
