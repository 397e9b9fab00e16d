"""Sizes as people write and read them: in powers of 1024, wherever img shows or takes one."""

from __future__ import annotations

import re

__all__ = ["binary_size", "budget_bytes", "parse_size"]

_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def binary_size(size: float, *, digits: int | None = None) -> str:
    """Return *size* in bytes as ``1.043MiB``, with four significant digits or with *digits* behind the point (no unit: none)."""
    unit = 0
    while size >= 1024 and unit < len(_NAMES) - 1:
        size /= 1024
        unit += 1
    return (f"{size:.4g}" if digits is None else f"{size:.{digits if unit else 0}f}") + _NAMES[unit]


def parse_size(text: str) -> int | None:
    """Return the bytes of a size such as ``512MiB``, ``512MB`` or ``2g``, whose units are powers of 1024, or None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * _UNITS[match[2].lower()]) if match else None


def budget_bytes(text: str, total: int) -> int | None:
    """Return the bytes of a budget: a size, a share of *total* such as ``10%``, or None for ``all``. Raises ValueError."""
    if text == "all":
        return None
    share = text.removesuffix("%")
    if share != text and share.isdecimal() and int(share) <= 100:
        return total * int(share) // 100
    size = parse_size(text)
    if size is None:
        raise ValueError(f"`{text}` is neither a size nor a share")
    return size
