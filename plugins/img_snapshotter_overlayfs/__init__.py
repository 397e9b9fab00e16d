"""Snapshots as stacked directories that the kernel merges: overlayfs."""
