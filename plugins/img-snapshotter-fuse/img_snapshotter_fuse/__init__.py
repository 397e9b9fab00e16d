"""Snapshots as stacked directories that a FUSE file system of ours merges."""
