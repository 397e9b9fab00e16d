"""Runs the command line on a real (pseudo) terminal, and lets the test look at the screen and press keys."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from harness.img import Img
from harness.started import tree
from harness.terminal import Terminal

__all__ = ["TerminalSession"]

_PATIENCE = 60.0


class TerminalSession:
    """One command with a terminal of *columns* × *rows* as standard input and error, and as standard output unless that is a file."""

    def __init__(
        self, img: Img, *arguments: str | Path, columns: int = 80, rows: int = 24, stdout: Path | None = None
    ) -> None:
        self.screen = Terminal(columns, rows)
        self.written = ""  #: everything that came
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._master, slave = pty.openpty()
        self._set_size(columns, rows)
        self.settings = self.settings_now()
        environment = {"TERM": "xterm", **img.environment()}
        with open(stdout or os.devnull, "wb") as output:
            self.process = subprocess.Popen(
                img.command(*arguments), stdin=slave, stderr=slave, stdout=output if stdout else slave, env=environment,
                start_new_session=True, preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),
            )  # fmt: skip
        os.close(slave)

    def press(self, keys: bytes) -> None:
        """Type *keys*, e.g. ``b"\\x03"`` for Ctrl-C."""
        os.write(self._master, keys)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        self.screen.resize(columns, rows)
        self._set_size(columns, rows)

    def wait_for(self, condition: Callable[[Terminal], bool]) -> Terminal:
        """Read until *condition* is true of the screen."""
        deadline = time.monotonic() + _PATIENCE
        while not condition(self.screen):
            assert time.monotonic() < deadline, self.screen.everything
            assert self._read(), self.screen.everything
        return self.screen

    def end(self) -> int:
        """Read until the command has ended; return its status. The screen has everything then."""
        while self._read():
            pass
        return self.process.wait(_PATIENCE)

    def hang_up(self) -> None:
        """Take the terminal away, as a window that is closed does; nothing can be read any more."""
        os.close(self._master)

    def settings_now(self) -> list[object]:
        """Return the settings of the terminal (echo, line editing…)."""
        return termios.tcgetattr(self._master)

    def _read(self) -> bool:
        """Take what was written; false at the end."""
        if not select.select([self._master], [], [], _PATIENCE)[0]:
            raise AssertionError(f"nothing comes any more: {self.screen.everything}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end open
            return False
        text = self._decoder.decode(data)
        self.written += text
        self.screen.feed(text)
        return bool(data)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> TerminalSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            sys.stdout.write(
                "\n".join(["left running:", *tree(self.process.pid), ""])
            )  # for the report of a failed test
            self.process.kill()
            self.process.wait()
        os.close(self._master)
