"""Where files of a user belong, by the XDG Base Directory Specification, and what lies there. Cheap to import: every command does."""

from __future__ import annotations

import os
import stat
import time

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "base_directory",
    "cache_directory",
    "forget_old_notes",
    "is_ours",
    "leave_note",
    "names_in",
    "open_ours",
    "own_note",
]

_NAME = "img"
_OTHERS = 0o022  #: bits of the mode by which others could choose what we believe


def base_directory(environment: Mapping[str, str], variable: str, otherwise: str) -> str:
    """Return the directory that *variable* (``XDG_CONFIG_HOME``) names, else *otherwise* (``.config``) in the home directory.

    Relative values are ignored, as the specification demands. The home is HOME, else that of the password database, else a directory of
    our own below /tmp.
    """
    value = environment.get(variable, "")
    return value if os.path.isabs(value) else os.path.join(_home(environment), otherwise)


def names_in(directory: str) -> list[str]:
    """Return the names of what is in *directory*, sorted; none if there is no such directory. Raises OSError if it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def cache_directory(environment: Mapping[str, str]) -> str:
    """Return the directory of what only saves time: ``$XDG_CACHE_HOME/img``, normally ``~/.cache/img``."""
    return os.path.join(base_directory(environment, "XDG_CACHE_HOME", ".cache"), _NAME)


def is_ours(found: os.stat_result) -> bool:
    """Tell whether nobody else can have made or moved this, as where ``sudo`` keeps HOME, or that is in a shared directory."""
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS


def open_ours(path: str) -> int:
    """Return a descriptor for reading the file *path* below `cache_directory`. Raises OSError if there is none that only we can have left.

    Whoever else left it there, or a link on the way to something of ours, would decide what we do.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not (stat.S_ISREG(found.st_mode) and is_ours(found) and _leads_through_ours(os.path.dirname(path))):
            raise PermissionError(f"{path} may be of somebody else")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _leads_through_ours(directory: str) -> bool:
    """Tell whether *directory* is ours, and what it is in up to the place of `cache_directory`, links themselves, ours or the system's."""
    above = os.path.dirname(directory)
    ways = [directory, above]
    if os.path.basename(directory) != _NAME:  # it was made for us alone
        if not is_ours(os.stat(directory)):
            return False
        ways.append(os.path.dirname(above))
    return all(os.lstat(way).st_uid in (0, os.geteuid()) for way in ways)


def own_note(path: str, seconds: float | None = None) -> bytes:
    """Return what was left as the note *path* below `cache_directory`, if that was less than *seconds* ago.

    It is nothing if there is none, or if somebody else may have left it (``sudo`` with a kept HOME).
    """
    try:
        with open(open_ours(path), "rb") as file:
            found = os.fstat(file.fileno())
            return file.read() if seconds is None or 0 <= time.time() - found.st_mtime < seconds else b""
    except OSError:
        return b""


def leave_note(path: str, content: bytes) -> bool:
    """Leave *content* as the note *path*, which only saves time, whole or not at all; return whether it could be written."""
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return False  # a full or read-only home costs time, nothing else
    return True


def forget_old_notes(directory: str, most: int) -> None:
    """Remove the older half of the notes in *directory*, if there are more than *most*."""
    try:
        names = os.listdir(directory)
        if len(names) > most:
            by_age = sorted(names, key=lambda name: os.stat(os.path.join(directory, name)).st_mtime)
            for name in by_age[: len(names) // 2]:
                os.unlink(os.path.join(directory, name))
    except OSError:
        pass  # another command forgets them, too


def _home(environment: Mapping[str, str]) -> str:
    home = environment.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        # A fixed name such as /tmp/img could be prepared by somebody else on a shared machine.
        return f"/tmp/img-{os.getuid()}"  # noqa: S108
