"""Remembers which plugins are installed, so that a command need not read the metadata of every distribution (30 ms).

The index is trusted only while nothing changed that could add, remove or rename a plugin: it is kept with the names of all installed
distributions and, of each ``entry_points.txt``, change time in nanoseconds and size. A new one is made whenever they differ. It lies in
the user's cache directory and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

from img_core.files.places import cache_directory, leave_note, own_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Row", "fingerprint", "load", "save"]

#: kind, name, module, distribution, version
Row = tuple[str, str, str, str, str]

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


def load(environment: Mapping[str, str], current: str) -> list[Row] | None:
    """Return the plugins, if the index was made for the *current* fingerprint; None otherwise."""
    try:
        document = json.loads(own_note(_path(environment)))
        if document["fingerprint"] != current:
            return None
        return [(row[0], row[1], row[2], row[3], row[4]) for row in document["plugins"]]
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def save(environment: Mapping[str, str], current: str, rows: Sequence[Row]) -> None:
    """Keep *rows* for the *current* fingerprint, if the cache directory can be written."""
    leave_note(_path(environment), json.dumps({"fingerprint": current, "plugins": rows}).encode())


def _path(environment: Mapping[str, str]) -> str:
    # One per interpreter: virtual environments must not take turns in making it.
    place = hashlib.sha256(f"{sys.executable}\0{sys.prefix}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(cache_directory(environment), f"plugins-{place}.json")
