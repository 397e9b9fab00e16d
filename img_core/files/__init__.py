"""Every change of a disk: writing, walking and removing beneath a root, with owners and ignore patterns."""
