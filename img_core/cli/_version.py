"""Which img this is."""

from __future__ import annotations

import os

from img_core import __version__

__all__ = ["commit", "version_line"]


def version_line() -> str:
    """Return the line of ``img --version``, in the form of the original img."""
    return f"img version {__version__}, build {commit()}"


def commit() -> str:
    """Return the abbreviated commit of the checkout we run from, or ``release`` for an installed img."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    head = _first_line(os.path.join(root, ".git", "HEAD"))
    if head.startswith("ref: "):
        head = _first_line(os.path.join(root, ".git", *head.removeprefix("ref: ").split("/")))
    return head[:12] or "release"


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
