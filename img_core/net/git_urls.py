"""What counts as the address of a git repository, for everybody who meets one: contexts, ADD, the git source."""

from __future__ import annotations

import re

__all__ = ["QUERY_KEYS", "is_git", "is_web"]

#: What may follow ``?`` in such an address (docs/reference/contexts-and-sources.md).
QUERY_KEYS = (
    "ref",
    "tag",
    "branch",
    "subdir",
    "checksum",
    "commit",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
)

_FORMS = (
    re.compile(r"(?:git|ssh|git\+ssh)://"),
    re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9.-]+:"),
    re.compile(r"https?://[^?#]*\.git(?:[?#]|$)"),
)


def is_git(text: str) -> bool:
    """Tell whether *text* names a git repository."""
    return any(form.match(text) for form in _FORMS)


def is_web(text: str) -> bool:
    """Tell whether *text* is a web address; the scheme counts in lower case only."""
    return text.startswith(("http://", "https://"))
