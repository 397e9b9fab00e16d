"""What is done about a damaged database: it is set aside, and made anew from the stored blobs and the notes about names.

All of it happens under one lock and beside the place of the database, which is taken at the end: killed in between, the next command
does it again. Only names, blobs and where layers were left come back; steps run again.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from img_core.files import fs, locks
from img_core.files.leases import Leases
from img_core.files.places import names_in
from img_core.files.sqlite import SUSPECT, DamagedError, immutable_uri, set_aside
from img_core.images.digests import ALGORITHMS, of_file
from img_core.spec.errors import ImgError
from img_core.spec.values import Descriptor, Digest
from img_core.store.blobs import Blobs
from img_core.store.database import LEASED, StateDatabase
from img_core.store.images import Images, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["DATABASE", "is_lost", "repaired"]

DATABASE = "img.db"
_NEW = "img.db.rebuilt"
_FILES = ("-wal", "-shm", SUSPECT, "")


def is_lost(state: str) -> bool:
    """Tell whether there is no database, or an empty file, though images were named."""
    try:
        if os.stat(os.path.join(state, DATABASE)).st_size:
            return False
    except OSError:
        pass
    try:
        return any(name.endswith(".json") for name in os.listdir(os.path.join(state, "names")))
    except OSError:
        return False


def repaired(
    state: str, boot: str, opened: Callable[[], StateDatabase], notice: Callable[[str], None]
) -> StateDatabase:
    """Return what *opened* gives, after making the database anew if it is damaged. Raises what prevents that."""
    path = os.path.join(state, DATABASE)
    with fs.disk_errors(state), locks.lock(state, "repair"):
        if not is_lost(state):
            with suppress(DamagedError):
                database = opened()  # another process may have been first
                if not any(problem.startswith("main: ") for problem in database.problems()):
                    with suppress(OSError):
                        fs.unlink(path + SUSPECT)
                    return database
                database.close()
            aside = set_aside(path, _FILES)
            notice(
                f"the state database was damaged; it is kept as `{fs.show(aside)}` and rebuilt from the stored images"
            )
        else:
            aside = ""
            notice("the state database was lost; it is rebuilt from the stored images")
        _rebuild(state, boot, aside, notice)
        return opened()


def _rebuild(state: str, boot: str, aside: str, notice: Callable[[str], None]) -> None:
    new = os.path.join(state, _NEW)
    for suffix in (*_FILES, "-journal"):
        with suppress(FileNotFoundError):
            fs.unlink(new + suffix)
    with closing(StateDatabase(new, boot, private=True)) as database:
        blobs = Blobs(state, database, None, Leases(database, None, LEASED))
        images = Images(state, database, blobs)
        notes, damaged = images.notes()
        for path in damaged:
            notice(f"a note about an image was damaged; it is kept as `{fs.show(set_aside(path, ('',)))}`")
        known = {note.name for note in notes}
        rows = [note for note in _rows(aside) if note.name not in known] if aside else []
        named = [*notes, *rows]
        _add_blobs(database, state, {note.descriptor.digest: note.descriptor.media_type for note in named})
        for note in named:
            _add_name(images, blobs, note, notice)
    for suffix in ("-wal", "-shm"):  # of a database that is gone
        with suppress(FileNotFoundError):
            fs.unlink(os.path.join(state, DATABASE) + suffix)
    fs.rename(new, os.path.join(state, DATABASE))


def _add_blobs(database: StateDatabase, state: str, types: Mapping[Digest, str]) -> None:
    """Take every stored blob that is what its name says."""
    now = time.time()
    found = [blob for algorithm in ALGORITHMS for blob in _whole_blobs(state, algorithm)]
    with database.transaction() as cursor:
        cursor.executemany(
            "INSERT OR IGNORE INTO blob (digest, size, media_type, created, boot) VALUES (?, ?, ?, ?, ?)",
            [(digest, size, types.get(digest, ""), now, database.boot) for digest, size in found],
        )


def _whole_blobs(state: str, algorithm: str) -> Iterator[tuple[Digest, int]]:
    directory = os.path.join(state, "blobs", algorithm)
    for name in names_in(directory):
        try:
            with fs.open_as_named(os.path.join(directory, name)) as file:
                size = os.fstat(file.fileno()).st_size
                digest = of_file(file, algorithm)
        except OSError:  # not a file, or a disk that fails: it is not whole
            continue
        if digest == f"{algorithm}:{name}":
            yield digest, size


def _add_name(images: Images, blobs: Blobs, note: Note, notice: Callable[[str], None]) -> None:
    try:
        for digest, origins in note.origins.items():
            for origin in origins:
                blobs.remember_origins([digest], origin)
        images.restore(note)
    except ImgError as err:
        notice(f"image {fs.show(note.name)} could not be rebuilt: {err}")


def _rows(aside: str) -> Iterable[Note]:
    """Return what can still be read of the names in the damaged database *aside*: a note may be damaged, too."""
    found = []
    with suppress(sqlite3.Error, ValueError, TypeError), closing(_read_only(aside)) as connection:
        origins: dict[Digest, list[str]] = {}
        with suppress(sqlite3.Error):
            for digest, repository in connection.execute("SELECT digest, repository FROM blob_origin"):
                origins.setdefault(Digest(str(digest)), []).append(str(repository))
        for name, digest, media_type, size in connection.execute("SELECT name, digest, media_type, size FROM image"):
            found.append(Note(str(name), Descriptor(str(media_type), Digest(str(digest)), int(size)), origins))
    return found


def _read_only(path: str) -> sqlite3.Connection:
    return sqlite3.connect(immutable_uri(path), uri=True)
