"""Secrets of a build from environment variables."""
