"""Digests of files that are remembered in a database, for as long as stat(2) says that nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from img_core.files.copy._tree import FileInfo
    from img_core.files.sqlite import Database

__all__ = ["FileDigests"]


class FileDigests:
    """Digests of files by inode, loaded at once and saved at once: a query per file would cost more than reading it.

    They are rows of the table ``file_digest`` (scope, device, inode, size, mtime_ns, ctime_ns, digest; key: the first three).

    Implements `FileHashes`; `Reading` says when a digest may be remembered.
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
        known = {}
        while rows:  # each goes when it was read: there may be hundreds of thousands
            row = rows.pop()
            known[row[0], row[1]] = (row[2], row[3], row[4], row[5])
        return known

    def get(self, info: os.stat_result | FileInfo) -> str | None:
        """Return what was put for the file with this lstat result, if it did not change since."""
        if self._known is None:
            self._known = self._load()
        key = info.st_dev, _signed(info.st_ino)
        found = self._new.get(key) or self._known.get(key)
        if found and found[:3] == (info.st_size, info.st_mtime_ns, info.st_ctime_ns):
            return found[3]
        return None

    def put(self, info: os.stat_result | FileInfo, value: str) -> None:
        """Remember *value* for the file with this lstat result."""
        self._new[info.st_dev, _signed(info.st_ino)] = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, value)

    def save(self) -> None:
        """Keep what was put."""
        if not self._new:
            return
        with self._database.transaction() as cursor:
            cursor.executemany(
                "INSERT OR REPLACE INTO file_digest (scope, device, inode, size, mtime_ns, ctime_ns, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((self._scope, *key, *value) for key, value in self._new.items()),
            )
        if self._known is not None:
            self._known.update(self._new)
        self._new.clear()


def _signed(inode: int) -> int:
    # SQLite integers are signed; some network file systems use all 64 bits of an inode number
    return inode - (1 << 64) if inode >= 1 << 63 else inode
