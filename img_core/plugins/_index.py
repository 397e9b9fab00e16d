"""Remembers which plugins are installed, so that a command need not read the metadata of every distribution (30 ms).

The index is trusted only while nothing changed that could add, remove or rename a plugin: see `img_core.files.installed`. A new one is made
whenever it did. It lies in the user's cache directory and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

from img_core.files.installed import fingerprint
from img_core.files.places import cache_directory, leave_note, own_note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Row", "fingerprint", "load", "save"]

#: kind, name, module, distribution, version
Row = tuple[str, str, str, str, str]


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
