"""A source tree of Python as the distribution that it would be if it was installed: its ``pyproject.toml`` as metadata."""

from __future__ import annotations

import os
from importlib.metadata import Distribution, EntryPoints
from typing import TYPE_CHECKING, Any

from img_core.forms.toml import read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["entry_points_of"]


def entry_points_of(root: str, name: str, version: str) -> EntryPoints:
    """Return the entry points of the source tree at *root*, if it is that of the distribution *name*, and none otherwise.

    Each has a distribution of that *version*, as those of installed ones have. Raises UsageError for a file that is no TOML.
    """
    project = read_toml(os.path.join(root, "pyproject.toml")).get("project", {})
    if project.get("name") != name:
        return EntryPoints()
    return _distribution(root, name, version, project.get("entry-points", {})).entry_points


def _distribution(root: str, name: str, version: str, groups: Mapping[str, Mapping[str, str]]) -> Distribution:
    sections = (
        f"[{group}]\n" + "".join(f"{point} = {value}\n" for point, value in points.items())
        for group, points in groups.items()
    )
    documents = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "entry_points.txt": "".join(sections),
    }

    class Checkout(Distribution):
        def read_text(self, filename: str) -> str | None:
            return documents.get(filename)

        def locate_file(self, path: Any) -> Any:  # Any: the signature differs between Python versions
            return os.path.join(root, path)

    return Checkout()
