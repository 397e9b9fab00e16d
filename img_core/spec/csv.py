"""One record of comma-separated values, by the rules of Go's encoding/csv that Docker's tools use for ``-o`` and friends."""

from __future__ import annotations

from img_core.spec.errors import UsageError

__all__ = ["key_values", "split_record"]


def split_record(text: str) -> list[str]:
    """Return the fields of *text*. A field that starts with ``"`` ends with ``"``; ``""`` inside means one quote. Raises UsageError."""
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted(text, position + 1)
        else:
            field, position = _bare(text, position)
        fields.append(field)
        if position >= len(text):
            return fields
        position += 1  # the comma


def key_values(text: str) -> list[tuple[str, str | None]]:
    """Return the fields of *text* as ``key=value``, keys in lower case; the value of a field without ``=`` is None."""
    pairs: list[tuple[str, str | None]] = []
    for field in split_record(text):
        key, equals, value = field.partition("=")
        pairs.append((key.lower(), value) if equals else (field, None))
    return pairs


def _bare(text: str, start: int) -> tuple[str, int]:
    end = text.find(",", start)
    end = len(text) if end < 0 else end
    field = text[start:end]
    if '"' in field:
        column = start + field.index('"') + 1
        raise UsageError(f'parse error on line 1, column {column}: bare " in non-quoted field', hint=_hint(text))
    return field, end


def _quoted(text: str, start: int) -> tuple[str, int]:
    parts = []
    position = start
    while True:
        end = text.find('"', position)
        if end < 0:
            raise UsageError(f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field')
        parts.append(text[position:end])
        if text.startswith('"', end + 1):
            parts.append('"')
            position = end + 2
        elif end + 1 == len(text) or text[end + 1] == ",":
            return "".join(parts), end + 1
        else:
            raise UsageError(
                f'parse error on line 1, column {end + 2}: extraneous or missing " in quoted-field', hint=_hint(text)
            )


def _hint(text: str) -> str | None:
    return 'quote the whole field: "name=a,b" instead of name="a,b"' if '="' in text else None
