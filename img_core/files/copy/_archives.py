"""Archives among what an ADD names: which they are, and what they count for."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from img_core.files import fs
from img_core.files.copy._digest import digest
from img_core.files.copy._tree import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.files.copy._select import Match, Selection
    from img_core.files.ownership import Owners

__all__ = ["Unpacker", "holds_archives", "unpacked_digests"]


class Unpacker(Protocol):
    """What is an archive, and how it is unpacked; `img_core.archives.unpacking` is one."""

    def is_archive(self, fd: int, /) -> bool:
        """Tell whether the file *fd* is an archive; its position and name do not matter."""

    def archive_digest(self, root_fd: int, path: bytes, /) -> str | None:
        """Return a digest of the archive *path* as it is without its compression; None unless that is one, and not a damaged one."""

    def unpack(
        self,
        fd: int,
        target_fd: int,
        path: bytes,
        owners: Owners,
        ids: tuple[int, int] | None,
        warn: Callable[[str], None],
        /,
    ) -> None:
        """Unpack the archive *fd* into the directory *target_fd*, which is *path* in the root; *ids* replace the owners in it."""


def holds_archives(selection: Selection, archives: Unpacker) -> bool:
    """Tell whether something that *selection* names is an archive."""
    return any(map(partial(_is_archive, selection, archives), selection.matches))


def _is_archive(selection: Selection, archives: Unpacker, match: Match) -> bool:
    if not stat.S_ISREG(match.info.st_mode):
        return False
    with reading(selection.tree, match.path):
        fd = fs.open_beneath(selection.tree.fd, match.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return archives.is_archive(fd)
        finally:
            os.close(fd)


def unpacked_digests(selection: Selection, archives: Unpacker) -> list[str]:
    """Return a digest of what each match brings where archives are unpacked: how they are compressed, and called, does not count."""
    return [
        _archive_digest(selection, archives, match) or digest(replace(selection, matches=(match,)))
        for match in selection.matches
    ]


def _archive_digest(selection: Selection, archives: Unpacker, match: Match) -> str | None:
    if not stat.S_ISREG(match.info.st_mode):
        return None
    with reading(selection.tree, match.path):
        return archives.archive_digest(selection.tree.fd, match.path)
