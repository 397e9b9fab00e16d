"""Standard input: what is piped into a command, and what people type."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TYPE_CHECKING

from img_core.files.rootlock import given_up
from img_core.spec.errors import UsageError
from img_core.spec.text import why

if TYPE_CHECKING:
    from typing import BinaryIO, TextIO

__all__ = ["standard_input", "typed_line"]


def standard_input(*, hint: str | None = None) -> BinaryIO:
    """Return standard input. Raises UsageError, with *hint*, if there is none or it cannot be read."""
    return _opened(hint).buffer


def typed_line() -> str:
    """Return a line of standard input, without what ends it; nothing at its end. Raises UsageError if it cannot be read, or is no text."""
    text = _opened(None)
    try:
        with given_up():
            return text.readline().rstrip("\r\n")
    except UnicodeDecodeError as err:
        raise UsageError(f"the answer on standard input is not {text.encoding.upper()}") from err
    except OSError as err:
        raise UsageError(f"cannot read standard input: {why(err)}") from err


def _opened(hint: str | None) -> TextIO:
    if sys.stdin is None:
        raise UsageError("standard input is closed", hint=hint)
    try:
        mode = fcntl.fcntl(sys.stdin, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, ValueError):  # of a test, or of a program that calls us
        mode = os.O_RDONLY
    if mode == os.O_WRONLY:
        raise UsageError("standard input is open for writing only", hint=hint)
    return sys.stdin
