"""The logs of builds: one file per build in ``logs/``, appended to while the build runs and locked as long.

What they take is bounded: in number and age when one begins, in size when a large one ends. A killed build leaves what it had written.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from img_core.files import fs, partial
from img_core.files.locks import ensure_directory
from img_core.files.places import names_in
from img_core.spec.errors import NotFoundError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["DIRECTORY", "LogFile", "LogName", "ends_of", "find_log", "lines_of", "list_logs"]

DIRECTORY = "logs"
_SUFFIX = ".jsonl"
_MOST = 500  #: logs
_OLDEST = 30 * 86400.0  #: seconds
_TOTAL = 100 << 20  #: bytes of all
_LARGE = (
    128 << 10
)  #: bytes from which on a log makes the others be counted: so many times the most are still less than all may be
_ID_BYTES = 6
_TAIL = 64 << 10  #: bytes at the end of a log that the last line is looked for in
_LAST = ("", "last")


class LogName(NamedTuple):
    """A log by its file *name*: ``<milliseconds since 1970>-<id>.jsonl``, so that names sort by age."""

    name: str
    id: str
    created: float  #: seconds since 1970 UTC


class LogFile:
    """The log of a build that runs. Raises OSError where it cannot be written; what was written stays."""

    def __init__(self, state: str) -> None:
        self._directory = os.path.join(state, DIRECTORY)
        self.id = os.urandom(_ID_BYTES).hex()
        self.path = os.path.join(self._directory, f"{time.time_ns() // 1_000_000:013d}-{self.id}{_SUFFIX}")
        self.size = 0
        ensure_directory(self._directory)
        _remove_oldest(self._directory)
        fs.mutation("create", self.path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def append(self, line: bytes) -> None:
        """Append a line, which ends as lines do."""
        fs.mutation("write", self.path)
        self.size += len(line)
        while line:
            line = line[os.write(self._descriptor, line) :]

    def close(self) -> None:
        """End the log; if it is large, old ones make room for it. Raises OSError; harmless when called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        os.close(descriptor)
        if self.size > _LARGE:
            _shrink(self._directory, keep=self.path)


def list_logs(state: str) -> list[LogName]:
    """Return the logs of the directory *state*, newest first."""
    return [found for name in reversed(names_in(os.path.join(state, DIRECTORY))) if (found := _parsed(name))]


def find_log(state: str, name: str) -> LogName:
    """Return the log of the build that *name* means: an id, perhaps cut, or ``last``. Raises NotFoundError."""
    logs = list_logs(state)
    if not logs:
        raise NotFoundError("no build has a log here", hint="logs are kept for a while, and go with `img prune`")
    if name in _LAST:
        return logs[0]
    found = [log for log in logs if log.id.startswith(name)]
    if not found:
        raise NotFoundError(f'build "{show(name)}": not found', hint="`img builds ls` lists them")
    if len(found) > 1:
        raise NotFoundError(f'"{show(name)}" is the beginning of several builds', hint="`img builds ls` lists them")
    return found[0]


def lines_of(file: BinaryIO) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Give the lines of an open log, which are JSON objects; what a full disk or a killed command left of one is passed over."""
    import json  # not for who only writes one, see `img_core.cli._repeated`

    for line in file:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def ends_of(path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # Any: JSON
    """Return the first line of the log *path*, empty if there is none, and its last ones. Raises FileNotFoundError."""
    with open(path, "rb") as file:
        head = next(lines_of(file), {})
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL, 0))
        return head, list(lines_of(file))


def _parsed(name: str) -> LogName | None:
    moment, dash, identifier = name.removesuffix(_SUFFIX).partition("-")
    if not (name.endswith(_SUFFIX) and dash and moment.isdecimal() and len(identifier) == 2 * _ID_BYTES):
        return None
    return LogName(name, identifier, int(moment) / 1000)


def _remove_oldest(directory: str) -> None:
    names = sorted(os.listdir(directory))
    oldest = f"{int((time.time() - _OLDEST) * 1000):013d}"
    excess = len(names) - _MOST
    for number, name in enumerate(names):
        if number > excess and name >= oldest:
            break
        _remove(os.path.join(directory, name))


def _shrink(directory: str, *, keep: str) -> None:
    """Remove the oldest logs until all take no more than they may; that of *keep* stays."""
    total = 0
    for name in sorted(os.listdir(directory), reverse=True):
        path = os.path.join(directory, name)
        with suppress(FileNotFoundError):
            total += os.lstat(path).st_size
            if total > _TOTAL and path != keep:
                _remove(path)


def _remove(path: str) -> None:
    """Remove a log unless its build still runs; failing at it is no harm."""
    with suppress(OSError):
        if not partial.held(path):
            fs.unlink(path)
