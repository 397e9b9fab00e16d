"""One line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["BAD", "NOTE", "OK", "WORSE", "Finding", "Status"]

Status = Literal["ok", "note", "worse", "bad"]

OK: Final = "ok"
NOTE: Final = "note"  #: something that few builds need is not there
WORSE: Final = "worse"  #: builds work, but could be better
BAD: Final = "bad"  #: builds fail


@dataclass(frozen=True, slots=True)
class Finding:
    """*what* was looked at (the same words on every host), what was found, and the one thing that would improve it."""

    status: Status
    what: str
    text: str
    hint: str = ""
