"""From what is known of the steps to lines that fit the terminal. Pure: the same board, time and size give the same lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from img_lib_progress.text import rate_text, size_text
from img_progress_tty._text import cut, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from img_progress_tty._board import Board, Part, RunningStep

__all__ = ["Layout", "Line", "Style"]

_DIGEST = re.compile(r"(sha(?:256|512):[0-9a-f]{12})[0-9a-f]{52,}\b")
_MARK, _ASCII_MARK = "…", "..."
_BAR = 14  #: columns
_TIMER_COLUMNS = 20  #: a terminal with fewer has no room for timers


class Style(IntEnum):
    """What a line means, for whoever gives it a colour; never the only sign of it."""

    NORMAL, DONE, ERROR, CANCELED, FAINT = range(5)


class _Rank(IntEnum):
    """What goes first when there are more lines than rows."""

    ENDED_PART, ENDED_STEP, ENDED_PART_OF_ACTIVE, LOG, PART, ACTIVE_STEP, HEADER = range(7)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the screen, at most as wide as asked for."""

    text: str
    style: Style = Style.NORMAL


@dataclass(frozen=True, slots=True)
class Layout:
    """Lays a board out in *width* columns. *rows* limits the lines (None: all).

    *spelled* escapes what the terminal cannot show; texts are already without control characters.
    """

    width: int
    rows: int | None
    log_lines: int = 6
    spelled: Callable[[str], str] = str

    def lines(self, board: Board, title: str, now: float, *, final: bool = False) -> list[Line]:
        """Return the lines for the time *now*. The *final* ones tell of everything but logs."""
        ranked = [(_Rank.HEADER, self._header(board, title, now, final=final))]
        for step in board.steps.values():
            ranked += self._step(step, now, final=final)
        if self.rows is not None and len(ranked) > self.rows:
            by_rank = sorted(range(len(ranked)), key=lambda index: (ranked[index][0], index))
            dropped = set(by_rank[: len(ranked) - self.rows])
            ranked = [item for index, item in enumerate(ranked) if index not in dropped]
        return [line for _rank, line in ranked]

    def _header(self, board: Board, title: str, now: float, *, final: bool) -> Line:
        seconds = max(now - board.started, 0.0) if board.started is not None else 0.0
        text = f"[+] {title} {seconds:.1f}s ({board.done}/{board.total})"
        if final and board.done == board.total:
            text += " FINISHED"
        return Line(self._cut(text, self.width))

    def _step(self, step: RunningStep, now: float, *, final: bool) -> Iterator[tuple[_Rank, Line]]:
        active = step.active and not final
        word, style = _state(step, active=active)
        yield (
            _Rank.ACTIVE_STEP if active else _Rank.ENDED_STEP,
            Line(self._timed(_shorter(f" => {word}{self.spelled(step.name)}"), step.seconds(now)), style),
        )
        for part in step.parts.values():
            running = part.ended is None and not final
            rank = _Rank.PART if running else _Rank.ENDED_PART_OF_ACTIVE if active else _Rank.ENDED_PART
            yield rank, Line(self._part(part, now, running=running), Style.FAINT if running else style)
        if step.ended is None and not final and self.log_lines:
            for line in step.log.last(self.log_lines):
                yield _Rank.LOG, Line(self._cut(f" => => # {self.spelled(line)}", self.width), Style.FAINT)

    def _part(self, part: Part, now: float, *, running: bool) -> str:
        seconds = max((part.ended if part.ended is not None else now) - part.started, 0.0)
        moved = part.outcome in ("", "done")
        full, short = _shorter(f" => => {self.spelled(part.text)}")
        if not moved:
            return self._timed([full, short], seconds, f" {size_text(part.total)} {part.outcome}")
        rate = f" {rate_text(part.current - part.first, seconds)}".rstrip() if running else ""
        if not part.total:
            amount = f" {size_text(part.current)}" if part.current else ""
            return self._timed([full, short], seconds, f"{amount}{rate}", amount)
        amount = f" {size_text(part.current)} / {size_text(part.total)}"
        if not running:
            return self._timed([full, short], seconds, amount)
        bar = f" {_bar(part.current / part.total)}"
        return self._timed([short], seconds, f"{bar}{amount}{rate}", f"{amount}{rate}", amount)

    def _timed(self, names: Sequence[str], seconds: float, *details: str) -> str:
        """Return the first that fits beside the timer of *names*, each with one of *details*; else the end of the last name is cut off."""
        timer = f" {seconds:.1f}s" if self.width >= _TIMER_COLUMNS else ""
        room = self.width - len(timer)
        texts = (f"{name}{detail}" for detail in details or ("",) for name in names)
        text = next((text for text in texts if width_of(text) <= room), None)
        if text is None:
            detail = details[-1] if details and len(details[-1]) <= room // 2 else ""
            text = self._cut(names[-1], room - len(detail)) + detail
        return text + " " * (room - width_of(text)) + timer

    def _cut(self, text: str, width: int) -> str:
        return cut(text, width, mark=_MARK if self.spelled(_MARK) == _MARK else _ASCII_MARK)


def _state(step: RunningStep, *, active: bool) -> tuple[str, Style]:
    if active:
        return "", Style.NORMAL
    if step.error:
        return "ERROR ", Style.ERROR
    if step.canceled or step.ended is None:
        return "CANCELED ", Style.CANCELED
    return "CACHED " if step.cached else "", Style.DONE


def _shorter(text: str) -> tuple[str, str]:
    """Return *text* with its digests in full, and cut to twelve digits."""
    return text, _DIGEST.sub(r"\1", text)


def _bar(share: float) -> str:
    filled = int(min(max(share, 0.0), 1.0) * _BAR)
    arrow = ">" if filled < _BAR else ""
    return f"[{'=' * filled}{arrow}{' ' * (_BAR - filled - len(arrow))}]"
