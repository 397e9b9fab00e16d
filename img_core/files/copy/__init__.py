"""The engine behind COPY, ADD, WORKDIR and heredocs: choose, digest, copy.

`select` decides which files of a `SourceTree` a `Copy` means and what they will be called; it reads directories only. `digest` is the
content part of the step's cache key. `apply` does the work of one file operation in a root file system; it is imported when it is first
used, which a cached build never does. With a `Reading`, what is copied is read for the digest on the way. The rules are in
docs/reference/dockerfile.md and, case by case, in docs/reference/dockerfile-cases.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.files.copy._digest import digest, file_digests, known_digest, outline
from img_core.files.copy._reading import FileHashes, Reading
from img_core.files.copy._remembered import FileDigests
from img_core.files.copy._select import Folder, Match, Selection, check_source, select, why_missing
from img_core.files.copy._tree import SourceTree
from img_core.spec._lazy import names_from

if TYPE_CHECKING:
    from img_core.files.copy._apply import apply, copy_path
    from img_core.files.copy._archives import Unpacker, holds_archives, unpacked_digests

__all__ = [
    "FileDigests",
    "FileHashes",
    "Folder",
    "Match",
    "Reading",
    "Selection",
    "SourceTree",
    "Unpacker",
    "apply",
    "check_source",
    "copy_path",
    "digest",
    "file_digests",
    "holds_archives",
    "known_digest",
    "outline",
    "select",
    "unpacked_digests",
    "why_missing",
]

__getattr__ = names_from(
    __name__, {"_apply": ("apply", "copy_path"), "_archives": ("Unpacker", "holds_archives", "unpacked_digests")}
)
