"""Sizes, durations and ages as flags take them."""

from __future__ import annotations

import re
import time

from img_core.forms.words import parse_size
from img_core.spec.errors import UsageError

__all__ = ["age", "duration", "size"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")


def size(text: str, flag: str) -> int:
    """Read a size such as ``512MiB`` or ``2g``; units are powers of 1024. Raises UsageError that names *flag*."""
    found = parse_size(text)
    if found is None:
        raise UsageError(f"`{text}` for {flag} is not a size", hint="e.g. `512MiB` or `2g`")
    return found


def age(text: str, flag: str) -> float:
    """Read what docker's ``until`` takes: a duration, a date or time (of here, if it has no zone), or seconds since 1970 UTC.

    Return the seconds since then. Raises UsageError that names *flag*.
    """
    import datetime

    if text.isdecimal():
        return time.time() - int(text)
    try:
        return time.time() - datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return duration(text, flag)


def duration(text: str, flag: str) -> float:
    """Read a duration such as ``24h`` or ``1h30m``; return seconds. Raises UsageError that names *flag*."""
    if not _DURATION.fullmatch(text.strip()):
        raise UsageError(f"`{text}` for {flag} is not a duration", hint="e.g. `24h`, `90m` or `7d`")
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([smhdw])", text))
