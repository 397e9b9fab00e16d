"""Times, sizes and rates as BuildKit writes them, and log lines that cannot play with the terminal."""

from __future__ import annotations

import re

from img_core.forms.words import binary_size
from img_core.spec.text import escaped

__all__ = ["clean_line", "log_time", "rate_text", "size_text", "split_lines"]

#: Colours are wanted; other escape sequences move the cursor, rename the window or answer as if typed.
_RESET = "\x1b[0m"
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")


def log_time(seconds: float) -> str:
    """Return *seconds* in five characters: ``0.123``, ``12.34``, ``123.4``; more only from 10000 seconds on."""
    seconds = max(seconds, 0.0)
    if seconds >= 10_000:
        return str(int(seconds))
    return f"{seconds:.3f}"[:5].rstrip(".")


def size_text(size: int) -> str:
    """Return *size* in bytes as ``172B`` or ``3.37MiB``: of one width while it grows."""
    return binary_size(size, digits=2)


def rate_text(size: int, seconds: float) -> str:
    """Return *size* bytes in *seconds* as ``6.18MiB/s``; empty where that says nothing."""
    return f"{size_text(int(size / seconds))}/s" if seconds > 0.01 and size > 0 else ""


def split_lines(pending: bytes, data: bytes, *, limit: int) -> tuple[list[bytes], bytes]:
    """Return the complete lines of *pending* + *data* and the rest; a rest longer than *limit* bytes counts as a line."""
    *lines, rest = (pending + data).split(b"\n")
    if len(rest) > limit:
        lines.append(rest)
        rest = b""
    return lines, rest


def clean_line(line: bytes, *, colours: bool = True) -> str:
    """Return a log line as text: what a terminal would show of it, control characters escaped, colours kept or left out."""
    visible = line.rstrip(b"\r").rpartition(b"\r")[2]  # a progress bar draws over itself
    text = visible.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    parts = _COLOUR.split(text)
    if not colours:
        return escaped("".join(parts[::2]), keep="\t")
    shown = "".join(part if number % 2 else escaped(part, keep="\t") for number, part in enumerate(parts))
    # A line must not colour, or hide, what others write after it.
    return shown if len(parts) == 1 or parts[-2:] == [_RESET, ""] else shown + _RESET
