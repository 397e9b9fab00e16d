"""Snapshots that hand one tree on: for hosts without overlays, where copying the tree for every step takes seconds."""
