"""How much room text takes on a terminal, and cutting it to what there is."""

from __future__ import annotations

__all__ = ["cut", "width_of"]

_VARIATION = "\ufe0f"  # makes the character before it an emoji, which takes two columns: count one here


def width_of(text: str) -> int:
    """Return the columns that *text* takes; it is printable (see `img_core.spec.text.show`)."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if character.isascii() or character == _VARIATION:
        return 1
    import unicodedata  # only where somebody uses more than ASCII

    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int, *, mark: str) -> str:
    """Return *text* if it fits into *width* columns, else its beginning and *mark* (``…``, or what the terminal can spell)."""
    if width_of(text) <= width:
        return text
    room = width - len(mark)
    if room <= 0:
        return mark[: max(width, 0)]
    kept = []
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + mark
