"""Tables, sizes, times and templates, in the form of Go's tools."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from img_core.forms.words import binary_size
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["binary_size", "human_age", "narrow_table", "render", "short_age", "short_duration", "table", "table_of"]

_TAB = 8
#: What stands for Docker's words where there is little room.
_SHORT_AGES = {
    "Less than a second ago": "just now",
    "About a minute ago": "1 minute ago",
    "About an hour ago": "1 hour ago",
}
_MINUTE, _HOUR, _DAY, _WEEK, _MONTH, _YEAR = 60, 3600, 24, 24 * 7, 24 * 30, 24 * 365  # from _DAY on in hours


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return *rows* aligned with tabs, as Go's tabwriter does with tab width 8 and padding 1; the last column is not padded."""
    columns = len(rows[0]) - 1
    widths = [(max(len(row[column]) for row in rows) // _TAB + 1) * _TAB for column in range(columns)]
    lines = []
    for row in rows:
        cells = [cell + "\t" * -((len(cell) - width) // _TAB) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join(cells) + row[-1])
    return "\n".join(lines)


def narrow_table(rows: Sequence[Sequence[str]]) -> str:
    """Return *rows* aligned with blanks, two between columns: as narrow as they can be read."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def short_age(seconds: float) -> str:
    """Return how long ago something was, in 14 characters at most."""
    age = human_age(seconds)
    return _SHORT_AGES.get(age, age)


def short_duration(seconds: float) -> str:
    """Return how long something took: ``0.4s``, ``1m05s``, ``2h03m``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02d}s"
    return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02d}m"


def human_age(seconds: float) -> str:
    """Return how long ago something was, in Docker's words."""
    return _duration(max(seconds, 0.0)) + " ago"


def _duration(seconds: float) -> str:
    whole, hours = int(seconds), int(seconds / _HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    if whole // _MINUTE == 1:
        return "About a minute"
    if whole // _MINUTE < 60:
        return f"{whole // _MINUTE} minutes"
    return "About an hour" if hours == 1 else _long_duration(hours)


def _long_duration(hours: int) -> str:
    for limit, unit, word in ((2 * _DAY, 1, "hours"), (2 * _WEEK, _DAY, "days"), (2 * _MONTH, _WEEK, "weeks")):
        if hours < limit:
            return f"{hours // unit} {word}"
    return f"{hours // _MONTH} months" if hours < 2 * _YEAR else f"{hours // _YEAR} years"


def render(template: str, record: Mapping[str, Any]) -> str:  # Any: JSON
    """Return *record* as one line: ``json``, or a template such as ``{{.Name}} {{.Size}}``. Raises UsageError.

    Of Go's templates only ``{{.Field}}`` and ``{{json .Field}}`` exist (``{{json .}}``: the whole record).
    """
    if template == "json":
        return json.dumps(record, ensure_ascii=False)
    unescaped = template.replace("\\t", "\t").replace("\\n", "\n")
    return re.sub(r"\{\{(.*?)\}\}", lambda match: _action(match[1].strip(), record), unescaped)


def table_of(template: str, records: Sequence[Mapping[str, Any]]) -> str:  # Any: JSON
    """Return *records* as a table whose columns are the parts of *template* between tabs, as docker's ``table {{.A}}\\t{{.B}}`` does."""
    columns = template.replace("\\t", "\t").split("\t")
    header = [re.sub(r"\{\{(?:json )?\.?(.*?)\}\}", lambda match: match[1].strip().upper(), text) for text in columns]
    return table([header, *([render(text, record) for text in columns] for record in records)])


def _action(text: str, record: Mapping[str, Any]) -> str:  # Any: JSON
    as_json = text.startswith("json ")
    name = text.removeprefix("json ").strip()
    if name == "." and as_json:
        return json.dumps(record, ensure_ascii=False)
    if not name.startswith(".") or name[1:] not in record:
        known = ", ".join(f"`{{{{.{key}}}}}`" for key in record)
        raise UsageError(f"unknown field `{{{{{text}}}}}` in --format", hint=f"known: `json`, {known}")
    value = record[name[1:]]
    return json.dumps(value, ensure_ascii=False) if as_json else str(value)
