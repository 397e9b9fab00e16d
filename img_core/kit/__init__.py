"""Bricks for the core and for plugins."""
