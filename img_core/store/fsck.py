"""Checks a whole state directory: database, blobs, layers, snapshots, images and the notes about them, and repairs what can be repaired.

What is damaged is taken away rather than kept wrong: a blob is fetched or made again, a step runs again. Only an image that lost something
that no registry is known to have stays as it is: its name tells what to build or pull.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.sqlite import SUSPECT, set_aside
from img_core.images import oci
from img_core.images.digests import chain_id, of_file
from img_core.spec.errors import ImgError
from img_core.spec.values import ChainId, DiffId, Digest
from img_core.store.records import forget_lost
from img_core.store.repair import DATABASE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from img_core.images.kept import Image
    from img_core.store.images import Note
    from img_core.store.store import Store

__all__ = ["Problem", "Report", "check", "request_check"]

_BUILT_ON = (
    "WITH RECURSIVE above(id) AS (VALUES (?) UNION SELECT s.id FROM snapshot s JOIN above ON s.parent = above.id)"
    " DELETE FROM snapshot WHERE id IN above"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be. *kind*: ``database``, ``blob``, ``layer``, ``snapshot``, ``image`` or ``note``.

    *harmless*: a command that was killed may leave it, and nothing is lost by it.
    """

    kind: str
    id: str
    description: str
    repaired: bool = False
    harmless: bool = False


@dataclass(slots=True)
class Report:
    """What was found, and how many things of each kind were looked at."""

    problems: list[Problem] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)


def request_check(state: str) -> None:
    """Let who opens the database of *state* next check it, and replace it if it is damaged."""
    path = os.path.join(state, DATABASE)
    if os.path.exists(path):
        fs.replace_file(path + SUSPECT, b"")


def check(store: Store, *, repair: bool = False, read_data: bool = False) -> Report:
    """Check the state of *store*; a writable one is needed to *repair*. *read_data* reads every blob, else only documents are read."""
    report = Report()
    checker = _Checker(store, report, repair=repair, read_data=read_data)
    checker.database()
    checker.blobs()
    checker.snapshots()
    checker.images()
    checker.notes()
    return report


class _Checker:
    def __init__(self, store: Store, report: Report, *, repair: bool, read_data: bool) -> None:
        self._store = store
        self._report = report
        self._repair = repair
        self._read_data = read_data

    def _found(
        self,
        kind: str,
        identifier: str,
        description: str,
        mend: Callable[[], object] | None = None,
        *,
        harmless: bool = False,
    ) -> None:
        """Note a problem; *mend* repairs it."""
        repaired = False
        if self._repair and mend is not None:
            try:
                mend()
                repaired = True
            except (ImgError, OSError) as err:
                description = f"{description}; not repaired: {err}"
        self._report.problems.append(Problem(kind, identifier, description, repaired, harmless))

    # ------------------------------------------------------------------------------------------------- the database

    def database(self) -> None:
        self._report.checked["database"] += 1
        for problem in self._store.database.problems():
            self._found("database", DATABASE, problem)

    # -------------------------------------------------------------------------------------------------------- blobs

    def blobs(self) -> None:
        layers: dict[str, list[str]] = {}
        for row in self._store.database.query("SELECT digest, diff_id FROM layer"):
            layers.setdefault(row["digest"], []).append(row["diff_id"])
        for row in self._store.database.query("SELECT digest, size, media_type FROM blob ORDER BY created, digest"):
            self._report.checked["blob"] += 1
            self._blob(row, layers.get(row["digest"], []))

    def _blob(self, row: sqlite3.Row, diff_ids: list[str]) -> None:
        digest = Digest(row["digest"])
        try:
            path = self._store.blobs.path(digest)
            problem = self._problem_of_blob(path, row)
        except ImgError as err:
            self._found("blob", str(row["digest"]), str(err), lambda: self._forget_blob(digest, None))
            return
        if problem and self._still_has(digest):
            self._found("blob", digest, problem, lambda: self._forget_blob(digest, path))
        elif self._read_data and diff_ids and not problem:
            self._layer(digest, path, diff_ids)

    def _still_has(self, digest: Digest) -> bool:
        return self._store.database.one("SELECT 1 FROM blob WHERE digest = ?", (digest,)) is not None

    def _problem_of_blob(self, path: str, row: sqlite3.Row) -> str:
        try:
            info = os.lstat(path)
        except OSError as err:
            return f"its file cannot be read: {err.strerror}"
        if not stat.S_ISREG(info.st_mode):
            return "its file is not a regular file"
        if info.st_size != row["size"]:
            return f"its file has {info.st_size} bytes, not {row['size']}"
        if self._read_data or oci.layer_compression(row["media_type"]) is None:
            try:
                with fs.open_as_named(path) as file:
                    found = of_file(file, row["digest"])
            except OSError as err:
                return f"its file cannot be read: {err.strerror}"
            if found != row["digest"]:
                return "its content is not what its digest says"
        return ""

    def _forget_blob(self, digest: Digest, path: str | None) -> None:
        with self._store.database.transaction() as cursor:
            named = cursor.execute("SELECT 1 FROM image WHERE digest = ?", (digest,)).fetchone()
            if not named:  # else the row stays, without a file: as if it was never fetched
                cursor.execute("DELETE FROM blob WHERE digest = ?", (digest,))
        if path is not None:
            fs.remove_tree(path)

    def _layer(self, digest: Digest, path: str, diff_ids: list[str]) -> None:
        self._report.checked["layer"] += 1
        for diff_id in diff_ids:
            try:
                found = _diff_id(path, diff_id)
                reason = f"it unpacks to {found}"
            except (ImgError, OSError) as err:
                found = None
                reason = f"it cannot be unpacked: {err}"
            if diff_id != found:
                self._found(
                    "layer",
                    digest,
                    f"{reason}, not to {diff_id}",
                    lambda diff_id=diff_id: self._delete(  # type: ignore[misc]  # mypy cannot type a bound default
                        "DELETE FROM layer WHERE digest = ? AND diff_id = ?", digest, diff_id
                    ),
                )

    def _delete(self, statement: str, *parameters: str) -> None:
        with self._store.database.transaction() as cursor:
            cursor.execute(statement, parameters)
            forget_lost(cursor)

    # ---------------------------------------------------------------------------------------------------- snapshots

    def snapshots(self) -> None:
        rows = {row["id"]: row for row in self._store.database.query("SELECT * FROM snapshot ORDER BY created")}
        for identifier, row in rows.items():
            self._report.checked["snapshot"] += 1
            problem = self._problem_of_snapshot(row, rows)
            if problem and self._store.database.one("SELECT 1 FROM snapshot WHERE id = ?", (identifier,)):
                self._found(
                    "snapshot",
                    identifier,
                    f"{problem} ({fs.show(row['description'])})",
                    lambda identifier=identifier: self._delete(_BUILT_ON, identifier),  # type: ignore[misc]  # see above
                )

    def _problem_of_snapshot(self, row: sqlite3.Row, rows: dict[str, sqlite3.Row]) -> str:
        path = os.path.join(self._store.state, "snapshots", row["backend"], row["directory"])
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return "its directory is something else"
        except OSError as err:
            return f"its directory cannot be read: {err.strerror}"
        parent = rows.get(row["parent"]) if row["parent"] else None
        if row["chain_id"] and row["diff_id"] and (parent is None or parent["chain_id"]):
            below = [ChainId(parent["chain_id"])] if parent else []
            if chain_id(below, DiffId(row["diff_id"])) != row["chain_id"]:
                return "its chain id is not that of its layers"
        return ""

    # ------------------------------------------------------------------------------------------------ images, notes

    def images(self) -> None:
        for image in self._store.images.list():
            self._report.checked["image"] += 1
            try:
                self._store.images.require_complete(image.descriptor)
            except ImgError as err:
                self._found("image", image.name, f"{err}: pull or build it again, or remove it with `img rm`")

    def notes(self) -> None:
        images = {image.name: image for image in self._store.images.list()}
        notes, damaged = self._store.images.notes()
        for path in damaged:
            name = os.path.basename(path)
            self._found("note", name, "it is damaged", lambda path=path: set_aside(path, ("",)))  # type: ignore[misc]  # see above
        noted = {note.name: note for note in notes}
        for name, image in images.items():
            self._report.checked["note"] += 1
            note = noted.pop(name, None)
            if note is None or note.descriptor.digest != image.descriptor.digest:
                self._note_differs(image, "is missing" if note is None else "tells of another image")
        for note in noted.values():
            self._not_listed(note)

    def _note_differs(self, image: Image, how: str) -> None:
        with suppress(ImgError):
            self._store.images.require_complete(image.descriptor)
            self._found(
                "note", image.name, f"its note {how}", lambda: self._store.images.rewrite_note(image), harmless=True
            )

    def _not_listed(self, note: Note) -> None:
        """Take up an image that was noted and is not in the database: what the database's log held was lost."""

        def take_up() -> None:
            for digest, origins in note.origins.items():
                for origin in origins:
                    self._store.blobs.remember_origins([digest], origin)
            try:
                self._store.images.restore(note)
            except ImgError:  # it is not here any more
                self._store.images.remove(note.name)

        self._found("note", note.name, "it is noted, but not listed", take_up, harmless=True)


def _diff_id(path: str, like: str) -> Digest:
    """Return the digest, by the algorithm of *like*, of what the layer blob *path* unpacks to. Raises ArchiveError, OSError."""
    from img_core.archives import codecs

    with open(path, "rb") as file:
        return of_file(codecs.open_decompressed(file), like)
