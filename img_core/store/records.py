"""What is remembered between builds: finished steps, resolved references, digests of context files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.values import Digest

if TYPE_CHECKING:
    import os

    from img_core.store.database import Database

__all__ = ["FileDigests", "Pin", "Records", "StepRecord"]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A finished step: *snapshot* holds its result, *identity* stands for it in the keys of what builds on it.

    *definition* tells steps of one key apart that differ in what is not in the key.
    """

    key: str
    definition: str
    identity: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class Pin:
    """What a reference meant when it was *checked* (seconds since 1970 UTC)."""

    top: Digest
    manifest: Digest
    checked: float


class Records:
    """Records of one state directory."""

    def __init__(self, database: Database, backend: str, mapping: str) -> None:
        self._database = database
        self._backend = backend
        self._mapping = mapping

    def steps(self, key: str) -> list[StepRecord]:
        """Return the records of *key*, one for each definition, the newest first."""
        rows = self._database.query(
            "SELECT definition, identity, snapshot FROM step WHERE key = ? AND backend = ? AND mapping = ? ORDER BY made DESC",
            (key, self._backend, self._mapping),
        )
        return [StepRecord(key, row["definition"], row["identity"], row["snapshot"]) for row in rows]

    def add_step(self, step: StepRecord) -> None:
        """Keep *step*, which was just made, in place of an older one with its key and definition.

        What was remembered of the files of an earlier result of this identity, which is gone, is forgotten.
        """
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM tree_digest WHERE identity = ?", (step.identity,))
            cursor.execute(
                "INSERT OR REPLACE INTO step (key, definition, backend, mapping, identity, snapshot, made) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (step.key, step.definition, self._backend, self._mapping, step.identity, step.snapshot, time.time()),
            )

    def pin(self, reference: str, platform: str) -> Pin | None:
        """Return what *reference* meant last, or None."""
        row = self._database.one(
            "SELECT top, manifest, checked FROM pin WHERE reference = ? AND platform = ?", (reference, platform)
        )
        return Pin(Digest(row["top"]), Digest(row["manifest"]), row["checked"]) if row else None

    def has_pin(self, reference: str) -> bool:
        """Tell whether *reference* was resolved for some platform."""
        return self._database.one("SELECT 1 FROM pin WHERE reference = ?", (reference,)) is not None

    def set_pin(self, reference: str, platform: str, pin: Pin) -> None:
        """Remember what *reference* means."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO pin (reference, platform, top, manifest, checked) VALUES (?, ?, ?, ?, ?)",
                (reference, platform, pin.top, pin.manifest, pin.checked),
            )

    def tree_digest(self, identity: str, files: str) -> str | None:
        """Return the remembered digest of some *files* of the tree that *identity* stands for."""
        row = self._database.one("SELECT digest FROM tree_digest WHERE identity = ? AND files = ?", (identity, files))
        return str(row["digest"]) if row else None

    def set_tree_digest(self, identity: str, files: str, digest: str) -> None:
        """Remember the digest of some *files* of the tree that *identity* stands for."""
        with self._database.transaction() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO tree_digest (identity, files, digest) VALUES (?, ?, ?)",
                (identity, files, digest),
            )

    def file_digests(self, scope: str) -> FileDigests:
        """Return the remembered digests of the files of one tree; *scope* names it (its root's device and inode)."""
        return FileDigests(self._database, scope)


class FileDigests:
    """Digests of files by inode, loaded at once and saved at once: a query per file would cost more than reading it.

    Implements `img_core.files.copy.FileHashes`, which says when a digest may be remembered.
    """

    def __init__(self, database: Database, scope: str) -> None:
        self._database = database
        self._scope = scope
        self._known: dict[tuple[int, int], tuple[int, int, int, str]] | None = None
        self._new: dict[tuple[int, int], tuple[int, int, int, str]] = {}

    def _load(self) -> dict[tuple[int, int], tuple[int, int, int, str]]:
        rows = self._database.query(
            "SELECT device, inode, size, mtime_ns, ctime_ns, digest FROM file_digest WHERE scope = ?", (self._scope,)
        )
        return {(row[0], row[1]): (row[2], row[3], row[4], row[5]) for row in rows}

    def get(self, info: os.stat_result) -> str | None:
        """Return what was put for the file with this lstat result, if it did not change since."""
        if self._known is None:
            self._known = self._load()
        found = self._known.get((info.st_dev, _signed(info.st_ino)))
        if found and found[:3] == (info.st_size, info.st_mtime_ns, info.st_ctime_ns):
            return found[3]
        return None

    def put(self, info: os.stat_result, value: str) -> None:
        """Remember *value* for the file with this lstat result."""
        self._new[info.st_dev, _signed(info.st_ino)] = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, value)

    def save(self) -> None:
        """Keep what was put."""
        if not self._new:
            return
        with self._database.transaction() as cursor:
            cursor.executemany(
                "INSERT OR REPLACE INTO file_digest (scope, device, inode, size, mtime_ns, ctime_ns, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(self._scope, *key, *value) for key, value in self._new.items()],
            )
        if self._known is not None:
            self._known.update(self._new)
        self._new.clear()


def _signed(inode: int) -> int:
    # SQLite integers are signed; some network file systems use all 64 bits of an inode number
    return inode - (1 << 64) if inode >= 1 << 63 else inode
