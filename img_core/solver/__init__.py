"""Runs a build graph: cache keys, scheduling, layers, results."""
