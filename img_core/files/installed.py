"""Whether the distributions of Python that are installed changed: told by their names and, of each ``entry_points.txt``, by its change time
in nanoseconds and its size. Their metadata is not read."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fingerprint"]

_VERSION = 1


def fingerprint() -> str:
    """Return what changes whenever the installed entry points may have changed."""
    digest = hashlib.sha256(f"{_VERSION} {sys.version}".encode())
    for line in _signs():
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _signs() -> Iterator[str]:
    for path in sys.path:
        try:
            names = os.listdir(path or ".")
        except OSError:
            continue
        for name in sorted(names):
            if name.endswith((".dist-info", ".egg-info")):
                yield _sign_of(os.path.join(path, name, "entry_points.txt"))


def _sign_of(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return f"{path} -"
    return f"{path} {status.st_mtime_ns} {status.st_size}"
