"""A build that would find everything as the one before it did: what that one said is said again, without click, plugins and namespace.

A build that ran no step and asked nobody outside of this machine leaves a note (`img_core.cli.build._repeatable` knows which do). The note
counts for the same command line in the same directory, environment and boot while nothing has changed that the build looked at: its
context, the configuration, the database of the state directory, and every module of the program itself. It counts for ten minutes only,
because builds also note which things are in use, and that is as exact as those notes are.

Archives that the build wrote are written again, of the same parts (`img_core.cli._archives`).

Notes lie in the user's cache directory and may be deleted at any time. What cannot be told for certain is no repetition.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from img_core.cli import COMPLETION_VARIABLE
from img_core.files.fingerprint import SETTLED_NS, digest, fingerprint
from img_core.files.places import cache_directory, forget_old_notes, leave_note, own_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from img_core.cli._archives import Archive

__all__ = ["Overhearing", "Repetition", "answered", "watched"]

_FORMAT = b"img repeated build 2"
_SECONDS = 600.0  #: as exact as the times of last use are
_NOTES = 100  #: that are kept
_TEXT_LIMIT = 256 << 10  #: characters of what is said
#: Variables that change between two commands of one shell, and that nothing reads unless the command line names them.
_FLEETING = ("_", "SHLVL", "OLDPWD")
#: Variables with which a command does something else, or shows what it does.
_REVEALING = ("IMG_TRACE", "IMG_TRACE_PLUGINS", COMPLETION_VARIABLE)


class Repetition(NamedTuple):
    """What a build said and what it depended on. *log* is its log, with a NUL for each time; *checks* are pairs of places and prints."""

    state: str
    before: str  #: on standard error, before…
    answer: str  #: …what is on standard output, and…
    after: str  #: …after that
    log: bytes
    trees: tuple[str, ...]
    files: tuple[str, ...]
    places: tuple[str, ...]
    later: tuple[
        str, ...
    ]  #: files of which only the end of the build was seen: the modules of the program, and what is open while it runs
    print: bytes  #: of trees, files and places
    later_print: bytes
    archives: tuple[Archive, ...] = ()  #: that it wrote, in this order

    def holds(self) -> bool:
        """Tell whether nothing changed."""
        return self.later_print == fingerprint(files=self.later) and self.print == fingerprint(
            trees=self.trees, files=self.files, places=self.places
        )


def answered(words: Sequence[str]) -> bool:
    """Say again what the same command said, if it would say that; else remember what is said from now on (see `watched`)."""
    if any(os.environ.get(name) for name in _REVEALING) or sys.stderr is None or sys.stdout is None:
        return False
    try:
        name = _name(words)
        note = _read(name)
    except OSError:
        return False
    if note is not None and note.holds() and _write_archives(note) and _log(note):
        from img_core.cli._output import echo, flush

        _say(note.before)
        if note.answer:
            echo(note.answer, end="")
            flush()
        _say(note.after)
        return True
    _watches.append(Overhearing(name, sys.stderr))
    sys.stderr = _watches[-1]  # what it has not is the stream's
    return False


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def _write_archives(note: Repetition) -> bool:
    """Write what the build writes; return whether that went well. If not, the build tells why it cannot."""
    if not note.archives:
        return True
    from img_core.cli._archives import write
    from img_core.spec.errors import ImgError

    try:
        return all(write(archive, note.state) for archive in note.archives)
    except (ImgError, OSError):
        return False


def _log(note: Repetition) -> bool:
    """Write the log of this build, which happened, too; return whether there is one."""
    from img_core.files.logs import LogFile

    try:
        log = LogFile(note.state)
        log.append(note.log.replace(b"\0", b"%.6f" % time.time()))
        log.close()
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ which command this is


def _name(words: Sequence[str]) -> str:
    """Return a name for this command line, here and now."""
    typed = "\0".join(words)
    variables = (f"{key}={value}" for key, value in sorted(os.environ.items()) if key not in _FLEETING or key in typed)
    parts = [
        typed,
        os.getcwd(),
        f"{os.getuid()} {os.geteuid()} {os.getgid()} {os.getegid()} {sorted(os.getgroups())}",
        f"{sys.executable} {sys.version} {sys.flags}",
        "\0".join(sys.path),
        *(_terminal(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)),
        *(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "user", "pid")),
        _content("/proc/sys/kernel/random/boot_id"),
        *variables,
    ]
    text = "\n\0".join(parts).encode("utf-8", "surrogateescape")
    return digest(text).hex()


def _terminal(stream: TextIO | None) -> str:
    if stream is None or not stream.isatty():
        return ""
    return str(os.get_terminal_size(stream.fileno()))


def _content(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


# --------------------------------------------------------------------------------------------------- what it said before


class Overhearing:
    """Standard error, and what was written there; *name* is that of the command. `keep` leaves a note."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._written: list[str] = []
        self._left = _TEXT_LIMIT
        self.began = time.time_ns()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write *text*, and remember it."""
        self._left -= len(text)
        if self._left >= 0:
            self._written.append(text)
        return self._stream.write(text)

    def said(self) -> str:
        """Return what was said so far."""
        return "".join(self._written)

    def keep(self, note: Repetition) -> None:
        """Leave *note*, completed by the modules of the program, unless any of `Repetition.later` changed since this command began."""
        modules = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
        later = (*note.later, *sorted(modules))
        later_print = fingerprint(files=later, settled=self.began - SETTLED_NS)
        if later_print is not None and self._left >= 0:
            _write(self._name, note._replace(later=later, later_print=later_print))


_watches: list[Overhearing] = []


def watched() -> Overhearing | None:
    """Return what watches this command, if it may be repeated."""
    return _watches[-1] if _watches else None


# ---------------------------------------------------------------------------------------------------------------- notes


def _directory() -> str:
    return os.path.join(cache_directory(os.environ), "repeated")


def _read(name: str) -> Repetition | None:
    """Return the note *name*, None if there is none, or none that counts."""
    data = own_note(os.path.join(_directory(), name), _SECONDS)
    head, body = data[:32], data[32:]
    if head != digest(body):  # cut, or by another version
        return None
    return _parsed(body)


def _parsed(body: bytes) -> Repetition | None:
    fields = _fields(body)
    if fields[0] != _FORMAT:
        return None
    state, before, answer, after = (field.decode("utf-8", "surrogateescape") for field in fields[1:5])
    trees, files, places, later = (
        tuple(os.fsdecode(path) for path in field.split(b"\0") if path) for field in fields[6:10]
    )
    note = Repetition(state, before, answer, after, fields[5], trees, files, places, later, fields[10], fields[11])
    return note._replace(archives=_archives(fields[12:]))


def _archives(fields: Sequence[bytes]) -> tuple[Archive, ...]:
    if not fields:
        return ()
    from img_core.cli._archives import Archive

    return tuple(Archive(os.fsdecode(dest), tuple(parts)) for dest, *parts in map(_fields, fields))


def _fields(body: bytes) -> list[bytes]:
    fields = []
    while body:
        size, _, rest = body.partition(b"\n")
        fields.append(rest[: int(size)])
        body = rest[int(size) :]
    return fields


def _joined(fields: Iterable[bytes]) -> bytes:
    return b"".join(b"%d\n%b" % (len(field), field) for field in fields)


def _write(name: str, note: Repetition) -> None:
    """Leave *note*, if the cache directory can be written."""
    texts = [text.encode("utf-8", "surrogateescape") for text in (note.state, note.before, note.answer, note.after)]
    paths = [b"\0".join(map(os.fsencode, each)) for each in (note.trees, note.files, note.places, note.later)]
    archives = [_joined([os.fsencode(archive.dest), *archive.parts]) for archive in note.archives]
    body = _joined([_FORMAT, *texts, note.log, *paths, note.print, note.later_print, *archives])
    directory = _directory()
    if leave_note(os.path.join(directory, name), digest(body) + body):
        forget_old_notes(directory, _NOTES)
