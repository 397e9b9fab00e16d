"""Tar archives and compression, hostile input included."""
