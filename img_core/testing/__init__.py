"""Fixtures and contract suites, for us and for authors of other plugins. Opt-in: nothing here is loaded by itself."""
