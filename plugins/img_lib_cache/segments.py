"""Names of segments: the tags under which each writer publishes its own records first."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime

__all__ = ["new_segment", "segment_prefix", "written_at"]

_TAG_LIMIT = 128  # characters, of any registry
_TIME = re.compile(r"\.seg-(\d{8}T\d{6})-[0-9a-f]{8}$")
_FORM = "%Y%m%dT%H%M%S"
_TAIL = len("yyyymmddThhmmss-12345678")


def segment_prefix(tag: str) -> str:
    """Return what the names of all segments of *tag* begin with."""
    room = _TAG_LIMIT - len(".seg-") - _TAIL
    if len(tag) > room:
        tag = f"{tag[: room - 9]}-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
    return f"{tag}.seg-"


def new_segment(tag: str, now: float) -> str:
    """Return a new name for a segment of *tag* that is written at *now* (seconds since 1970 UTC)."""
    return f"{segment_prefix(tag)}{datetime.fromtimestamp(now, UTC).strftime(_FORM)}-{os.urandom(4).hex()}"


def written_at(name: str) -> float | None:
    """Return when the segment *name* was written, None if it is no segment."""
    match = _TIME.search(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
