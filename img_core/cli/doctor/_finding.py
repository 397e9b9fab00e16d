"""One line of the report."""

from __future__ import annotations

from typing import Final

from img_core.spec.host import Finding
from img_core.spec.host import FindingStatus as Status

__all__ = ["BAD", "NOTE", "OK", "WORSE", "Finding", "Status"]

OK: Final = "ok"
NOTE: Final = "note"  #: something that few builds need is not there
WORSE: Final = "worse"  #: builds work, but could be better
BAD: Final = "bad"  #: builds fail
