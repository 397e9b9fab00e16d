"""Standard output, which is data: what a command writes for programs must not be mixed with what a plugin prints.

A command calls `reserve`. From then on descriptor 1, and with it ``print``, ``os.write(1, …)`` and the programs that a plugin starts, mean
standard error; who writes data asks for `descriptor` or `stream`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

TYPE_CHECKING = False  # type checkers know the name; `typing` is half of the time of `img version`
if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["close", "deny", "descriptor", "is_denied", "release", "reserve", "stream"]

_STANDARD, _ERROR = 1, 2


class _Reserved:
    """The real standard output, as long as descriptor 1 is something else."""

    stream: TextIO | None = None
    denied = False


def deny() -> None:
    """Let there be none: what is descriptor 1 belongs to whoever called us, as in the process of a library call."""
    _Reserved.denied = True


def is_denied() -> bool:
    """Tell whether no data can go to standard output."""
    return _Reserved.denied


def reserve() -> None:
    """Keep standard output to ourselves until `release`; does nothing if the caller closed it or it is reserved already."""
    if sys.stdout is None or _Reserved.stream is not None:
        return
    sys.stdout.flush()
    fd = os.dup(_STANDARD)
    _Reserved.stream = os.fdopen(fd, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(_ERROR, _STANDARD)


def release() -> None:
    """Undo `reserve`; whoever wrote has flushed the stream before."""
    reserved, _Reserved.stream = _Reserved.stream, None
    if reserved is None:
        return
    with suppress(OSError):  # a print; it goes to standard error, where a lost line is no error
        sys.stdout.flush()
    os.dup2(reserved.fileno(), _STANDARD)
    with suppress(OSError):
        reserved.close()


def close() -> None:
    """In a process that was forked from a command: let go of the reserved descriptor, so that the reader sees our end alone.

    Its number stays taken: the stream, which cannot be closed (it may hold what the command is going to write), would use another file's.
    """
    if _Reserved.stream is not None:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, _Reserved.stream.fileno(), inheritable=False)
        os.close(null)


def descriptor() -> int:
    """Return the descriptor of the real standard output."""
    return _STANDARD if _Reserved.stream is None else _Reserved.stream.fileno()


def stream() -> TextIO | None:
    """Return the real standard output as text; None if the caller closed it."""
    return _Reserved.stream or sys.stdout
