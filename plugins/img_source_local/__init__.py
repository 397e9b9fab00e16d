"""Build contexts on this machine."""
