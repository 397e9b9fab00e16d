"""The texts of ``--chmod``: octal numbers, and the symbolic grammar of chmod(1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from img_core.kit import fs
from img_core.spec.errors import UsageError

__all__ = ["ModeChange", "parse_mode"]

_UMASK: Final = 0o022  # of every step; counts where a clause names nobody
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]+|[ugo]|))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_REACH: Final = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_BITS: Final = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_SET_ID: Final = 0o6000


@dataclass(frozen=True, slots=True)
class ModeChange:
    """How ``--chmod`` changes a mode: either *octal*, or *actions* ``(who, operator, what)`` in order; neither: not at all."""

    octal: int | None = None
    actions: tuple[tuple[str, str, str], ...] = ()

    def apply(self, mode: int, *, directory: bool) -> int:
        """Return the permission bits for a file or directory that has *mode*."""
        mode &= 0o7777
        if self.octal is not None:
            return self.octal
        for who, operator, what in self.actions:
            mode = _act(mode, who, operator, what, directory)
        return mode

    def for_new_parent(self, mode: int = 0o755) -> int:
        """Return the mode of a directory that is made on the way: of an octal change, the permissions alone concern it (CP11)."""
        return mode if self.octal is None else self.octal & 0o777


def parse_mode(text: str) -> ModeChange:
    """Read the text of ``--chmod``; empty means no change. Raises `UsageError`."""
    if not text:
        return ModeChange()
    if text[0].isdigit():
        return ModeChange(octal=_parse_octal(text))
    actions: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(
                f"invalid chmod parameter: '{fs.show(text)}'",
                hint="write an octal number such as `0755`, or clauses such as `u=rwX,go=rX`",
            )
        actions.extend((match[1], operator, what) for operator, what in _ACTION.findall(match[2]))
    return ModeChange(actions=tuple(actions))


def _parse_octal(text: str) -> int:
    if not re.fullmatch("[0-7]+", text) or int(text, 8) > 0o7777:
        raise UsageError(
            f"invalid chmod parameter: '{fs.show(text)}'. it should be octal string and between 0 and 07777"
        )
    return int(text, 8)


def _act(mode: int, who: str, operator: str, what: str, directory: bool) -> int:
    """Do one action as POSIX chmod and GNU's set-id rules for directories want it."""
    reach = 0
    for person in who:
        reach |= _REACH[person]
    bits = _bits(mode, what, directory) & (reach or ~_UMASK)
    # chmod(1) keeps set-id bits of directories unless they are named.
    kept = _SET_ID & ~bits if directory else 0
    bits &= ~kept
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    kept |= 0o7777 & ~reach if reach else 0
    return mode & kept | bits


def _bits(mode: int, what: str, directory: bool) -> int:
    """Return what *what* stands for, for everybody."""
    if what in _SHIFTS:  # `g=u` copies
        return 0o111 * (mode >> _SHIFTS[what] & 0o7)
    bits = 0
    for letter in what:
        if letter == "X":
            bits |= 0o111 if directory or mode & 0o111 else 0
        else:
            bits |= _BITS[letter]
    return bits
