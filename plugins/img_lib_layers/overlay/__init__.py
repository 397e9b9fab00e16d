"""Snapshots in overlayfs' own format, for every snapshotter that merges such layers, whoever does the merging."""
