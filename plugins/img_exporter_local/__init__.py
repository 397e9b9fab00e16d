"""``-o type=local``: the root file system as a directory."""
