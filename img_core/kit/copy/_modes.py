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
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_PERMISSIONS: Final = {"r": 4, "w": 2, "x": 1}


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
        """Return the mode of a directory that is made on the way: only an octal change concerns it (CP11)."""
        return mode if self.octal is None else self.octal


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
    people = "ugo" if not who or "a" in who else who
    bits = 0
    affected = 0
    for person in people:
        shift = _SHIFTS[person]
        affected |= 0o7 << shift
        bits |= _permissions(mode, what, directory) << shift
        if "s" in what and person in "ug":
            bits |= 0o4000 if person == "u" else 0o2000
        if person in "ug":
            affected |= 0o4000 if person == "u" else 0o2000
    if "t" in what and (not who or "a" in who or "o" in who):
        bits |= 0o1000
        affected |= 0o1000
    if not who:
        bits &= ~_UMASK
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    if directory:
        affected &= ~0o6000 | bits  # chmod(1) keeps set-id bits of directories unless they are named
    return mode & ~affected | bits


def _permissions(mode: int, what: str, directory: bool) -> int:
    if what in _SHIFTS:  # `g=u` copies
        return mode >> _SHIFTS[what] & 0o7
    bits = 0
    for letter in what:
        if letter == "X":
            bits |= 1 if directory or mode & 0o111 else 0
        else:
            bits |= _PERMISSIONS.get(letter, 0)
    return bits
