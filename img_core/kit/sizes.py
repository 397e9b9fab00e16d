"""Sizes as people write them."""

from __future__ import annotations

import re

__all__ = ["budget_bytes", "parse_size"]

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_size(text: str) -> int | None:
    """Return the bytes of a size such as ``512MB`` or ``2g``, whose units are powers of 1024, or None for anything else."""
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
