"""Text and names from outside (images, registries, contexts) made safe to show."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LINE_LIMIT", "escaped", "one_line", "redacted", "show", "show_path", "suggestion", "why"]

#: The most characters of a line that tells people what happened, with its ``Error: `` or ``hint: ``.
LINE_LIMIT = 1000

_WORD = re.compile(r"\S+")
_RAW_BYTE = re.compile("[\udc80-\udcff]")  # that is not UTF-8, as os.fsdecode marks it
_END_OF_HOST = re.compile(r"[/?#]")


def show(text: str | bytes, *, limit: int = 200) -> str:
    """Return *text* on one line with everything unprintable escaped and without passwords of addresses, cut to *limit* characters.

    A terminal escape sequence in a file name or a registry's answer must not reach the terminal.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "backslashreplace")
    text = redacted(text)
    cut = text[:limit]
    return escaped(cut) + ("…" if len(text) > limit else "")


def show_path(name: bytes | str | os.PathLike[str]) -> str:
    """Return all of *name* on one line, so that no two names look alike: backslashes are escaped too."""
    text = os.fsdecode(name).replace("\\", "\\\\")
    return escaped(
        text if text.isprintable() else _RAW_BYTE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)
    )


def one_line(text: str, *, limit: int = LINE_LIMIT) -> str:
    """Return *text* as `show` does, but no longer than *limit* after escaping, and cut in the middle: a message ends with its reason."""
    text = redacted(text)
    if len(text) > 2 * limit:  # what is left out anyway need not be escaped
        text = text[:limit] + text[-limit:]
    shown = escaped(text)
    if len(shown) <= limit:
        return shown
    tail = limit // 3
    return f"{shown[: limit - tail - 1]}…{shown[len(shown) - tail :]}"


def redacted(text: str) -> str:
    """Return *text* with ``***`` for user and password of every address in it; takes time linear in its length.

    A token often stands where the user does, so that goes, too; only ssh has users that are no secret (``ssh://git@…``).
    """
    if "@" not in text or "://" not in text:
        return text
    return _WORD.sub(lambda match: _redacted_word(match[0]), text)


def _redacted_word(word: str) -> str:
    last, done = word.rfind("@"), 0
    pieces = []
    while (mark := word.find("://", done, last)) >= 0:
        start = mark + 3
        found = _END_OF_HOST.search(word, start)
        host_end = found.start() if found else len(word)
        end = word.rfind("@", start, host_end)
        if end < 0 and _is_no_port(word[start:host_end]):
            end = last  # a password with a slash in it: none by the letter, but one to whoever wrote it
        if end < 0:
            pieces.append(word[done:host_end])
            done = host_end
        else:
            secret = not word[:mark].endswith("ssh") or ":" in word[start:end]
            pieces += [word[done:start], "***" if secret else word[start:end]]
            done = end
    return "".join([*pieces, word[done:]])


def _is_no_port(host: str) -> bool:
    """Tell whether what follows the colon in *host* is no port, so that what looks like a host is a user with a password."""
    _, colon, port = host.rpartition(":")
    return bool(colon) and not host.startswith("[") and not port.isdigit() and port != ""


def escaped(text: str, *, keep: str = "") -> str:
    """Return *text* with escapes for what is not printable, except what is in *keep*."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return a hint for a mistyped *word*: the nearest known one, or all of them."""
    import difflib  # 5 ms; only where something is wrong

    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known: " + ", ".join(f"`{name}`" for name in sorted(known)) if known else "none is installed"


def why(err: OSError) -> str:
    """Return why something failed that the system was asked for, as messages say it: ``no such file or directory``."""
    return (err.strerror or str(err)).lower()
