"""What snapshotters share: changes of a root file system, and snapshots in overlayfs' format."""
