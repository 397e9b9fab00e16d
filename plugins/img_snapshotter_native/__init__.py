"""Snapshots as whole copies: works on every file system and without mounts."""
