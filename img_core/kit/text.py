"""Text from outside (images, registries, contexts) made safe to show."""

from __future__ import annotations

__all__ = ["show"]


def show(text: str | bytes, *, limit: int = 200) -> str:
    """Return *text* on one line with everything unprintable escaped, cut to *limit* characters.

    A terminal escape sequence in a file name or a registry's answer must not reach the terminal.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit].decode("utf-8", "backslashreplace")
    cut = text[:limit]
    shown = cut if cut.isprintable() else "".join(map(_escape, cut))
    return shown + ("…" if len(text) > limit else "")


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
