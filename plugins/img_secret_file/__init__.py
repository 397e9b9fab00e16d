"""Secrets of a build from files."""
