"""``--progress=tty``: draws what goes on, ten times a second, from a thread of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from img_core.spec.progress import Event, Progress
from img_lib_progress.steps import failure_block, warning_block
from img_progress_tty._board import Board
from img_progress_tty._layout import Layout
from img_progress_tty._screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TerminalProgress"]

_FIRST_FRAME = 0.15  #: seconds; most cached builds have ended by then and are drawn once
_FRAME = 0.1
_LOG_LINES = 6
_LOG_LINES_VARIABLE = "BUILDKIT_TTY_LOG_LINES"


class TerminalProgress(Progress):
    """A block of lines: a header, one line per step with its parts, and the end of the logs of running steps.

    Events only change what is known; a thread draws it now and then. So neither a slow terminal nor thousands of lines per second hold up
    the build. At the end the whole block is drawn once more, whatever its height, and below it failed steps with their logs, and warnings.
    """

    name = "tty"

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(stream)
        self._clock = clock
        self._colours = not os.environ.get("NO_COLOR")
        self._screen = Screen(stream, colours=self._colours)
        self._log_lines = _log_lines()
        self._board = Board()
        self._board_lock = threading.Lock()
        self._screen_lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._continued = False
        self._before: Any = None  #: what SIGCONT did; Any: as in the module signal
        if threading.current_thread() is threading.main_thread():  # others cannot set it, and do not need to
            self._before = signal.signal(signal.SIGCONT, self._continue)

    def handle(self, event: Event) -> None:
        """Learn from *event*."""
        with self._board_lock:
            self._board.take(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw_until_closed, name="progress", daemon=True)
            self._thread.start()

    def _continue(self, _signum: int, _frame: object) -> None:
        """After Ctrl-Z and ``fg`` the shell has written below the block: begin a new one there."""
        self._continued = True

    def note(self, text: str) -> None:
        """Write *text* above the block."""
        with self._screen_lock:
            self._screen.write(f"{text}\n")

    def close(self) -> None:
        """Draw everything for the last time, then failures and warnings."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCONT, self._before)
        if self._board.steps:
            self.draw(final=True)
        failures = [
            failure_block(step.name, step.log.lines(step.started, colours=self._colours))
            for step in self._board.steps.values()
            if step.error and (step.log or len(self._board.steps) > 1)  # what was said elsewhere is not repeated
        ]
        with self._screen_lock:
            self._screen.append("".join(failures) + warning_block(self._board.warnings))

    def draw(self, *, final: bool = False) -> None:
        """Draw what is known now."""
        columns, rows = self._screen.size()
        limit = None if final else max(rows - 1, 1)  # the cursor stands in the last row
        layout = Layout(max(columns - 1, 1), limit, self._log_lines, self._screen.spelled)
        with self._board_lock:
            lines = layout.lines(self._board, self.title, self._clock(), final=final)
        with self._screen_lock:
            if self._continued:
                self._continued = False
                self._screen.forget()
            self._screen.draw(lines, (columns, rows))

    def _draw_until_closed(self) -> None:
        wait = _FIRST_FRAME
        while not self._closing.wait(wait):
            self.draw()
            wait = _FRAME


def _log_lines() -> int:
    """Return how many lines of a running step's log are shown: BuildKit's variable is honoured if it makes sense."""
    text = os.environ.get(_LOG_LINES_VARIABLE, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else _LOG_LINES
