"""Every change of a disk: writing, copying, walking and removing beneath a root, with owners and ignore patterns."""

__all__ = [
    "boots",
    "copy",
    "faults",
    "fs",
    "ignore",
    "locks",
    "modes",
    "output",
    "ownership",
    "partial",
    "passwd",
    "space",
    "sqlite",
    "treewalk",
    "trust",
    "vital",
    "wildcards",
    "xattrs",
]
__version__ = "1.0"
