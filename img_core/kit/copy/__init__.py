"""The engine behind COPY, ADD, WORKDIR and heredocs: choose, digest, copy.

`select` decides which files of a `SourceTree` a `Copy` means and what they will be called; it reads directories only. `digest` is the
content part of the step's cache key. `apply` does the work of one file operation in a root file system. The rules are those of
spec/dockerfile-frontend.md sections 7, 12 and 19.
"""

from img_core.kit.copy._apply import apply
from img_core.kit.copy._digest import FileHashes, digest
from img_core.kit.copy._modes import ModeChange, parse_mode
from img_core.kit.copy._select import Folder, Match, Selection, select
from img_core.kit.copy._tree import SourceTree

__all__ = [
    "FileHashes",
    "Folder",
    "Match",
    "ModeChange",
    "Selection",
    "SourceTree",
    "apply",
    "digest",
    "parse_mode",
    "select",
]
