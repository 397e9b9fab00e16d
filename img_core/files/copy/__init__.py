"""The engine behind COPY, ADD, WORKDIR and heredocs: choose, digest, copy.

`select` decides which files of a `SourceTree` a `Copy` means and what they will be called; it reads directories only. `digest` is the
content part of the step's cache key. `apply` does the work of one file operation in a root file system; it is imported when it is first
used, which a cached build never does. The rules are in docs/reference/dockerfile.md and, case by case, in
docs/reference/dockerfile-cases.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.files.copy._digest import FileHashes, digest
from img_core.files.copy._select import Folder, Match, Selection, check_source, select
from img_core.files.copy._tree import SourceTree
from img_core.spec._lazy import names_from

if TYPE_CHECKING:
    from img_core.files.copy._apply import apply

__all__ = [
    "FileHashes",
    "Folder",
    "Match",
    "Selection",
    "SourceTree",
    "apply",
    "check_source",
    "digest",
    "select",
]

__getattr__ = names_from(__name__, {"_apply": ("apply",)})
