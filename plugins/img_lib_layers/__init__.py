"""What snapshotters share: changes of a root file system, and snapshots in overlayfs' format."""

__all__ = ["changes", "clone", "copies", "copy_changes", "linked", "overlay", "snapshots", "times"]
__version__ = "1.2"
