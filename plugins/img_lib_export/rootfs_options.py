"""What the exporters of root file systems have in common."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from img_core.files import fs
from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.files.treewalk import Entry
    from img_core.spec.exporter import Result
    from img_core.spec.values import Platform

__all__ = ["EPOCH", "SPLIT", "Overlaps", "effective_epoch", "top_directory"]

#: Schemas of two options. Any: JSON
SPLIT: Mapping[str, Any] = {
    "type": "boolean",
    "description": "one directory per platform, such as linux_amd64; default: only for several platforms",
}
EPOCH: Mapping[str, Any] = {
    "type": "integer",
    "minimum": 0,
    "description": "the time of all files, in seconds since 1970; default: SOURCE_DATE_EPOCH of the build, or that of each file",
}


class Overlaps:
    """Lets several platforms share one tree (``platform-split=false``) as long as only directories are in several of them."""

    def __init__(self) -> None:
        self.platform = ""  #: whose entries come now
        self._taken: dict[bytes, str] = {}

    def admit(self, entry: Entry) -> bool:
        """Tell whether *entry* is new; False for a directory that is there already. Raises UsageError for anything else."""
        owner = self._taken.setdefault(entry.path, self.platform)
        if owner == self.platform:
            return True
        if stat.S_ISDIR(entry.info.st_mode):
            return False
        raise UsageError(
            f"cannot overwrite {fs.show(entry.path)} from {owner} with {self.platform} when split option is disabled",
            hint="leave out `platform-split=false`",
        )


def effective_epoch(options: Mapping[str, Any], result: Result) -> int | None:
    """Return the time of all files, in seconds since 1970; None: their own."""
    epoch: int | None = options.get("source-date-epoch")
    return result.source_date_epoch if epoch is None else epoch


def top_directory(platform: Platform) -> bytes:
    """Return the directory for *platform*, e.g. ``linux_arm_v7``."""
    return str(platform).replace("/", "_").encode()
