"""``-o type=tar``: the root file system as one tar archive."""
