"""A small terminal: what people would see of the bytes that a program wrote. It knows what we use, and notes everything else."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["Terminal"]

_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b(.)", re.DOTALL)


class Terminal:
    """A screen of *columns* × *rows*. Lines that leave it at the top are kept in *scrolled*, and come back when there is room again.

    *unknown* lists control characters and sequences other than those for colours, cursor up and erasing: a title, a moved cursor.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self.scrolled: list[str] = []
        self.unknown: list[str] = []
        self.painted: set[str] = set()  #: colours (parameters of SGR) that were used
        self.colour = ""
        self._grid: list[list[str]] = [[]]
        self._parts: list[bool] = [
            False
        ]  #: of all rows, those that scrolled away included: whether one goes on with the line before
        self._row = self._column = 0
        self._wraps = True

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without empty lines at its end."""
        shown = ["".join(row).rstrip() for row in self._grid]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    @property
    def everything(self) -> list[str]:
        """What scrolled away and what is on the screen."""
        return self.scrolled + self.lines

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column."""
        return self._row, self._column

    def feed(self, text: str) -> None:
        """Take what a program wrote (with the line discipline's carriage returns, or without)."""
        position = 0
        while position < len(text):
            if text[position] == "\x1b" and (found := _SEQUENCE.match(text, position)):
                self._control(found)
                position = found.end()
            else:
                self._put(text[position])
                position += 1

    def resize(self, columns: int, rows: int) -> None:
        """Change the size: as most terminals do, wrap lines that are too long now, and join the parts of those that are not any more."""
        below = len(self.scrolled) + self._row  # rows above the cursor
        lines: list[str] = []
        for number, text in enumerate([*self.scrolled, *("".join(row) for row in self._grid)]):
            if self._parts[number] and number < below:
                parts = -(-len(lines[-1]) // self.columns) or 1
                lines[-1] = lines[-1].ljust(parts * self.columns) + text.rstrip()  # blanks were written, too
            else:
                lines.append(text.rstrip())
            if number == below:
                cursor_line = len(lines) - 1
        rows_of = [[line[at : at + columns] for at in range(0, len(line), columns)] or [""] for line in lines]
        self._row = sum(map(len, rows_of[:cursor_line]))
        self._parts = [number > 0 for parts in rows_of for number in range(len(parts))]
        self.columns, self.rows, self.scrolled = columns, rows, []
        self._grid = [list(part) for parts in rows_of for part in parts]
        self._scroll()

    def _control(self, found: re.Match[str]) -> None:
        parameters, command, single = found.groups()
        if command == "m":
            self.colour = "" if parameters in ("", "0") else parameters
            self.painted |= {parameters} - {"", "0"}
        elif parameters == "?7" and command in "hl":
            self._wraps = command == "h"
        elif command == "A":
            self._row = max(0, self._row - int(parameters or 1))
        elif command == "K" and not parameters:
            del self._grid[self._row][self._column :]
            self._end_line()
        elif command == "J" and not parameters:
            del self._grid[self._row][self._column :]
            del self._grid[self._row + 1 :]
            del self._parts[len(self.scrolled) + self._row + 1 :]
        else:
            self.unknown.append(found.group() if single is None else "\x1b" + single)

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._column = 0
            self._down()
        elif not character.isprintable():
            self.unknown.append(character)
        else:
            width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
            width = 0 if unicodedata.combining(character) else width
            if self._column + width > self.columns:
                if not self._wraps:
                    return
                self._column = 0
                self._down()
                self._parts[len(self.scrolled) + self._row] = True
            row = self._grid[self._row]
            row.extend(" " * (self._column - len(row)))
            row[self._column : self._column + width] = [character, *[""] * (width - 1)] if width else []
            self._column += width

    def _end_line(self) -> None:
        """Erased to its end, a row is no longer the first part of what stands below it."""
        if self._row + 1 < len(self._grid):
            self._parts[len(self.scrolled) + self._row + 1] = False

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._grid):
            self._grid.append([])
            self._parts.append(False)
        self._scroll()

    def _scroll(self) -> None:
        while len(self._grid) > self.rows:
            self.scrolled.append("".join(self._grid.pop(0)).rstrip())
            self._row = max(0, self._row - 1)
