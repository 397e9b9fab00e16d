"""Everything that one can do to a file system, as functions that say what came out; for comparing two of them."""

from overlay_operations import attributes, content, directories, names
from overlay_operations._table import CAPABILITY, MANY_IDS, OLD, OPERATIONS

__all__ = ["CAPABILITY", "MANY_IDS", "OLD", "OPERATIONS", "attributes", "content", "directories", "names"]
