"""Times as texts of RFC 3339, and how ``formatdate`` writes them (the function of that name in HashiCorp's cty)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from img_core.spec.text import show

__all__ = ["formatted", "later", "now"]

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PIECE = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+|'")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def now() -> str:
    """Return the time, in UTC."""
    return _text(datetime.now(UTC).replace(microsecond=0))


def later(time: str, duration: str) -> str:
    """Return *time* and *duration* (``1h30m``, ``-10s``) after it. Raises ValueError."""
    sign, rest = (-1, duration[1:]) if duration.startswith("-") else (1, duration.removeprefix("+"))
    if not rest or _DURATION.sub("", rest):
        raise ValueError(f"`{show(duration)}` is no duration")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(rest))
    return _text(_parsed(time) + timedelta(seconds=sign * seconds))


def formatted(pattern: str, time: str) -> str:
    """Return *time* as *pattern* says: ``YYYY-MM-DD'T'hh:mm:ssZ``. Raises ValueError for letters that mean nothing."""
    moment = _parsed(time)
    return "".join(_piece(match, moment) for match in _PIECE.finditer(pattern))


def _parsed(time: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", time):
        raise ValueError(f"`{show(time)}` is no time like 2024-01-31T12:00:00Z")
    return datetime.fromisoformat(time)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _piece(match: re.Match[str], moment: datetime) -> str:
    word = match.group()
    if word == "'":
        raise ValueError("a `'` in the pattern has no end")
    if word.startswith("'"):
        return match.group(1).replace("''", "'")
    if not match.group(2):
        return word
    known = _letters(moment)
    if word not in known:
        raise ValueError(f"`{word}` in the pattern means nothing")
    return known[word]


def _letters(moment: datetime) -> dict[str, str]:
    month, day, hour = _MONTHS[moment.month - 1], _DAYS[moment.weekday()], moment.hour % 12 or 12
    half = "am" if moment.hour < 12 else "pm"
    offset = moment.strftime("%z")
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return {
        "YYYY": f"{moment.year:04}", "YY": f"{moment.year % 100:02}",
        "MMMM": month, "MMM": month[:3], "MM": f"{moment.month:02}", "M": str(moment.month),
        "DD": f"{moment.day:02}", "D": str(moment.day), "EEEE": day, "EEE": day[:3],
        "hh": f"{moment.hour:02}", "h": str(moment.hour), "HH": f"{hour:02}", "H": str(hour),
        "AA": half.upper(), "aa": half, "mm": f"{moment.minute:02}", "m": str(moment.minute),
        "ss": f"{moment.second:02}", "s": str(moment.second),
        "ZZZZZ": f"{offset[:3]}:{offset[3:]}", "ZZZZ": offset, "ZZZ": "UTC" if offset == "+0000" else offset, "Z": zone,
    }  # fmt: skip
