"""The texts of ``--chmod``: octal numbers, and the symbolic grammar of setmode(3), which is BuildKit's.

Where that differs from GNU chmod(1): no mask counts where a clause names nobody; ``=`` takes set-id bits away from directories, too, but
the sticky bit only with ``t``; ``t`` without ``u``, ``g`` or ``a`` concerns that bit alone; a copy (``g=u``) leaves set-id bits alone and
may stand among letters (``g=ux``); ``X`` looks at the mode that the file came with.
"""

from __future__ import annotations

import re
from typing import Final

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import UsageError
from img_core.spec.text import show

__all__ = ["ModeChange", "parse_mode"]

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_REACH: Final = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_BITS: Final = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0o111}
_SET_ID: Final = 0o6000
_STICKY: Final = 0o1000
_RUN: Final = 0o111


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
        runnable = directory or bool(mode & _RUN)
        for who, operator, what in self.actions:
            mode = _act(mode, who, operator, what, runnable)
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
                f"invalid chmod parameter: '{show(text)}'. invalid syntax",
                hint="write an octal number such as `0755`, or clauses such as `u=rwX,go=rX`",
            )
        actions.extend((match[1], operator, what) for operator, what in _ACTION.findall(match[2]))
    return ModeChange(actions=tuple(actions))


def _parse_octal(text: str) -> int:
    if not re.fullmatch("[0-7]+", text) or int(text, 8) > 0o7777:
        raise UsageError(f"invalid chmod parameter: '{show(text)}'. it should be octal string and between 0 and 07777")
    return int(text, 8)


def _act(mode: int, who: str, operator: str, what: str, runnable: bool) -> int:
    """Do one action, letter by letter; *runnable* is what ``X`` asks for."""
    reach = sum(_REACH[person] for person in set(who)) if "a" not in who else _REACH["a"]
    bits = extra = 0
    pending = operator == "="  # even `=` alone takes everything away
    for letter in what:
        if letter in _SHIFTS:
            if bits:
                mode = _change(mode, operator, reach, bits)
            mode = _change(mode, "+", reach, extra)
            mode = _copy(mode, reach, operator, mode >> _SHIFTS[letter] & 0o7)
            bits, extra, pending = 0, 0, False
        elif letter == "X" and operator != "-":
            extra = _RUN if runnable else 0
        elif letter in _BITS:
            bits |= _BITS[letter]
        elif not reach or reach & ~0o7:  # set-id and sticky bits do not concern others alone
            reach |= _STICKY if letter == "t" else 0
            bits |= _STICKY if letter == "t" else _SET_ID
    if bits or pending:
        mode = _change(mode, operator, reach, bits)
    return _change(mode, "+", reach, extra)


def _change(mode: int, operator: str, reach: int, bits: int) -> int:
    """Set or take away *bits* within *reach* (0: everywhere)."""
    bits &= reach or 0o7777
    if operator == "-":
        return mode & ~bits
    return (mode & ~(reach or _REACH["a"]) if operator == "=" else mode) | bits


def _copy(mode: int, reach: int, operator: str, value: int) -> int:
    """Do a copy such as ``g=u``: *value* are three permission bits, which go to everybody within *reach* (0: to all)."""
    targets = sum(7 << shift for shift in _SHIFTS.values() if not reach or reach & 0o4 << shift)
    bits = 0o111 * value & targets
    if operator == "-":
        return mode & ~bits
    return (mode & ~targets if operator == "=" else mode) | bits
