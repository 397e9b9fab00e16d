"""How the database is opened, also where there is no space left.

SQLite's write-ahead log wants a file of shared memory (``-shm``, 32 KiB) as soon as somebody reads. On a full disk there is none, and where
blocks are smaller than a page of memory a write to it even kills the process (SIGBUS). So there are several ways:

``SHARED``  beside other processes, with that file
``ALONE``   with that memory on our heap (``locking_mode=EXCLUSIVE``): nobody else can have the database open meanwhile
``FROZEN``  as a file that nobody changes: needs nothing, but must not miss what is only in the log
"""

from __future__ import annotations

import enum
import os
import sqlite3
from typing import TYPE_CHECKING

from img_core.files import fs, space
from img_core.spec.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BUSY_SECONDS",
    "DamagedError",
    "Purpose",
    "Way",
    "immutable_uri",
    "is_damage",
    "open_connection",
    "require_space",
    "state_error",
]

BUSY_SECONDS = 30.0
_BUSY_ALONE = 0.5  # who is not alone has another way, which works because the others made the file


class Purpose(enum.Enum):
    """What a command wants of the database. Who cleans up must succeed where there is no space."""

    READ = "read"
    WRITE = "write"
    CLEAN = "clean"


class Way(enum.Enum):
    """How the database is open; see this module."""

    SHARED = "shared"
    ALONE = "alone"
    FROZEN = "frozen"


class DamagedError(StateError):
    """The database file is not usable any more."""


def open_connection(path: str, purpose: Purpose) -> tuple[sqlite3.Connection, Way]:
    """Open the database *path* in the first way that works. Raises the sqlite3.Error, or StateError, of the first."""
    first: Exception | None = None
    for way in _ways(path, purpose):
        try:
            return _open(path, way, purpose), way
        except (sqlite3.OperationalError, StateError) as err:
            first = first or err
    assert first is not None
    raise first


def _ways(path: str, purpose: Purpose) -> Sequence[Way]:
    if path == ":memory:":
        return [Way.SHARED]
    if os.path.exists(path) and not os.access(path, os.W_OK):
        return [Way.FROZEN]
    if purpose is Purpose.WRITE:
        return [Way.SHARED]
    cramped = space.free_bytes(os.path.dirname(path) or ".") < space.NEEDED
    usual = [Way.ALONE, Way.SHARED] if cramped else [Way.SHARED, Way.ALONE]
    return [*usual, Way.FROZEN] if purpose is Purpose.READ else usual


def _open(path: str, way: Way, purpose: Purpose) -> sqlite3.Connection:
    # On a medium that nobody can write to, what is only in the log is not to be had.
    if way is Way.FROZEN and _size(f"{path}-wal") and os.access(path, os.W_OK):
        raise StateError(f"the log of the database `{fs.show(path)}` cannot be read without space on the disk")
    if way is Way.SHARED and path != ":memory:":
        require_space(path)
    name = immutable_uri(path) if way is Way.FROZEN else path
    connection = sqlite3.connect(
        name,
        timeout=_BUSY_ALONE if way is Way.ALONE else BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=way is Way.FROZEN,
    )
    try:
        connection.row_factory = sqlite3.Row
        if way is Way.ALONE:
            connection.execute("PRAGMA main.locking_mode = EXCLUSIVE")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the first look makes the files
        if way is Way.ALONE and purpose is Purpose.CLEAN:
            # Change in place, without any file: killed just then, the database is rebuilt from what it tells of.
            connection.execute("PRAGMA journal_mode = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def require_space(path: str) -> None:
    """Raise StateError if a write to the shared memory of the database *path* could kill us for want of space."""
    directory = os.path.dirname(path) or "."
    if space.has_small_blocks(directory) and space.free_bytes(directory) < space.NEEDED // 2:
        raise _full(path)


def is_damage(err: sqlite3.Error) -> bool:
    """Tell whether *err* means that the content of a database file is not what we wrote."""
    code = getattr(err, "sqlite_errorcode", None)
    if code is None:  # Python's own: text that is not UTF-8
        return isinstance(err, sqlite3.OperationalError)
    return code & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
    )


def state_error(err: sqlite3.Error, path: str) -> StateError:
    """Return what *err* means to people."""
    if is_damage(err):
        return DamagedError(
            f"database `{fs.show(path)}` is damaged: {err}",
            hint="run the command again: the database is checked, and if need be set aside and made anew",
        )
    code = getattr(err, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return _full(path)
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateError(
            f"database `{fs.show(path)}` was busy for {BUSY_SECONDS:.0f} s", hint="is another img process stuck?"
        )
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN:
        if _nearly_full(path):
            return _full(path)
        return StateError(f"cannot open the database `{fs.show(path)}`", hint="is its directory writable for you?")
    return StateError(f"database `{fs.show(path)}`: {err}")


def _full(path: str) -> StateError:
    return StateError(
        f"no space left on device: `{fs.show(path)}`",
        hint="free some space, for example with `img prune`, and run the command again",
    )


def _nearly_full(path: str) -> bool:
    try:
        return space.free_bytes(os.path.dirname(path) or ".") < space.NEEDED
    except OSError:
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def immutable_uri(path: str) -> str:
    """Return how SQLite is told to read the file *path* as one that nobody changes: it makes no file beside it."""
    escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{escaped}?mode=ro&immutable=1"
