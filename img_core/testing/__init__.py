"""Fixtures and contract suites, for us and for authors of other plugins.

A pytest plugin that nobody gets who does not ask for it: ``pytest_plugins = ["img_core.testing"]`` in a ``conftest.py``, or
``-p img_core.testing``. It brings the fixtures of `img_core.testing.fixtures`, and failures in contract suites show the values compared.
"""

pytest_plugins = ["img_core.testing.fixtures"]
