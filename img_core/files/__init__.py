"""Every change of a disk: writing, copying, walking and removing beneath a root, with owners and ignore patterns."""

__all__ = [
    "appearing",
    "boots",
    "copy",
    "faults",
    "fingerprint",
    "fs",
    "ignore",
    "locks",
    "logs",
    "modes",
    "output",
    "ownership",
    "partial",
    "passwd",
    "space",
    "sqlite",
    "treewalk",
    "trials",
    "trust",
    "vital",
    "walker",
    "wildcards",
    "xattrs",
]
__version__ = "1.2"
