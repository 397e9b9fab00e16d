"""Where programs of the host are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from img_core.spec.host import Host

__all__ = ["find_on_path"]


def find_on_path(host: Host, name: str, *, further: Iterable[str] = ()) -> str | None:
    """Return the path of the program *name* on the builder's PATH or in one of the *further* directories; None if there is none."""
    for directory in (*host.environment.get("PATH", "").split(os.pathsep), *further):
        path = os.path.join(directory, name)
        if directory and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None
