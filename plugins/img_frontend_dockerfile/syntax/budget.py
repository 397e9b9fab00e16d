"""How much a build definition may make of itself: a file of a few lines can double a value until memory is full."""

from __future__ import annotations

from img_frontend_dockerfile.syntax.source import Fault

__all__ = [
    "ENTRY",
    "FILE_LIMIT",
    "MOST_INSTRUCTIONS",
    "MOST_STAGES",
    "MOST_TRIGGERS",
    "PAIR",
    "TITLE_LIMIT",
    "WORD_LIMIT",
    "Budget",
    "check_number",
]

_MEBI = 1024 * 1024
WORD_LIMIT = (
    4 * _MEBI
)  #: characters from variables in one word; a program gets at most 128 KiB in one variable (execve(2))
FILE_LIMIT = 32 * _MEBI  #: the same for all words of a file, with its history and what RUN steps and stages are handed
TITLE_LIMIT = 64 * 1024  #: the same for what a step is called
PAIR = 64  #: what a variable that is handed on costs, whatever its size: about the bytes of a reference to it
ENTRY = 8  #: the same for an entry of the history
#: Far more than anybody writes, and than a registry would take; what follows needs kilobytes and milliseconds for each.
MOST_INSTRUCTIONS = 50_000
MOST_STAGES = 5_000
MOST_TRIGGERS = 1_000


def check_number(have: int, limit: int, what: str) -> None:
    """Raise `Fault` when there are more than *limit* of *what*."""
    if have > limit:
        raise Fault(f"more than {limit:,} {what}")


class Budget:
    """How many characters *what* may still take. Everything is taken from *parent*, too."""

    def __init__(self, limit: int, what: str, parent: Budget | None = None) -> None:
        self._limit = limit
        self._left = limit
        self._what = what
        self._parent = parent

    def take(self, count: int) -> None:
        """Take *count* characters. Raises `Fault` when there are not so many left."""
        self._left -= count
        if self._left < 0:
            size = f"{self._limit // _MEBI} MiB" if self._limit >= _MEBI else f"{self._limit // 1024} KiB"
            raise Fault(f"{self._what} more than {size}", hint="does a variable contain itself several times?")
        if self._parent is not None:
            self._parent.take(count)
