"""Drawing a block of lines on a terminal again and again, in place.

Only what every terminal since the VT100 knows is used: cursor up, erase to the end of line and screen, colours, and no wrapping of lines
within one write. The cursor stays visible behind the block, so there is nothing to put right when the process is killed.

Terminals wrap lines that became too long when they are made narrower, some of them (tmux) a while before they tell their new size, and join
them again when they are made wider. What then scrolled away at the top is out of reach, and comes back when there is room for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from img_lib_progress.writer import TextWriter
from img_progress_tty._layout import Style
from img_progress_tty._text import width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_progress_tty._layout import Line

__all__ = ["Screen"]

_COLOURS = {Style.DONE: "\x1b[34m", Style.ERROR: "\x1b[31m", Style.CANCELED: "\x1b[33m", Style.FAINT: "\x1b[2m"}
_RESET = "\x1b[0m"
_ERASE_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"
#: A line takes one row even if the terminal is narrower than it says; so old rows can be counted, whatever was drawn on them.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_SIZE = (80, 24)  #: columns and rows of a terminal that does not tell


def _height(lines: Sequence[Line], columns: int) -> int:
    """Return how many rows a terminal needs for *lines*, wrapped."""
    return sum(max(1, -(-width_of(line.text) // columns)) for line in lines)


class Screen:
    """One terminal. Not for several threads at once."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self._stream = stream
        self._writer = TextWriter(stream)
        self._encoding = stream.encoding or "ascii"
        self._colours = colours
        self._drawn: list[Line] = []
        self._lost: list[Line] = []  #: lines above those, which scrolled away when the terminal was made smaller
        self._drawn_size = (0, 0)  #: of the terminal when *drawn* was drawn

    def size(self) -> tuple[int, int]:
        """Return columns and rows now."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):  # no terminal (a test), or closed
            columns, rows = _SIZE
        return columns or _SIZE[0], rows or _SIZE[1]

    def spelled(self, text: str) -> str:
        """Return *text* with what the terminal's encoding lacks escaped."""
        if text.isascii():
            return text
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def draw(self, lines: Sequence[Line], size: tuple[int, int]) -> None:
        """Let the block be *lines* on a terminal of *size*; what did not change is not sent again."""
        resized = size != self._drawn_size
        same = [] if resized else self._drawn
        if list(lines) == same:
            return
        # Erased first, rows forget that they were parts of one line.
        sent = [self._to_top(size), _NO_WRAP]
        for index, line in enumerate(lines):
            sent.append("\n" if index < len(same) and line == same[index] else f"{self._painted(line)}{_ERASE_LINE}\n")
        self._writer.write("".join([*sent, _WRAP, _ERASE_BELOW]))
        self._drawn, self._drawn_size = list(lines), size

    def write(self, text: str) -> None:
        """Write *text*, which ends with a line end, in place of the block; the next one is drawn below."""
        self._writer.write(f"{self._to_top(self.size())}{_ERASE_BELOW}{text}" if self._drawn else text)
        self.forget()

    def forget(self) -> None:
        """Leave what was drawn where it is; the next block is drawn where the cursor is."""
        self._drawn, self._lost = [], []

    def append(self, text: str) -> None:
        """Write *text* below the block, which stays as it is."""
        self._writer.write(text)
        self.forget()

    def _to_top(self, size: tuple[int, int]) -> str:
        """Return what brings the cursor to the first line of the block, or as near as can be reached on a terminal of *size*."""
        columns, rows = size
        height, reach = _height(self._drawn, columns), rows - 1
        if size != self._drawn_size:
            for line in self._drawn:
                if height <= reach:
                    break
                self._lost.append(
                    line
                )  # perhaps only a part of it scrolled away; the other one stays, or it could not be counted
                height -= _height([line], columns)
            lost = _height(self._lost, columns)
            if height + lost <= reach:
                height += lost
                self._lost = []
        return f"\r\x1b[{height}A" if height else "\r"

    def _painted(self, line: Line) -> str:
        colour = _COLOURS.get(line.style, "") if self._colours else ""
        return f"{colour}{line.text}{_RESET}" if colour else line.text
