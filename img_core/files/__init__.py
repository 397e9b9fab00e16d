"""Every change of a disk: writing, copying, walking and removing beneath a root, with owners and ignore patterns."""

__all__ = [
    "copy",
    "faults",
    "fs",
    "ignore",
    "modes",
    "output",
    "ownership",
    "passwd",
    "treewalk",
    "vital",
    "wildcards",
    "xattrs",
]
__version__ = "1.0"
