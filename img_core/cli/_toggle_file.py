"""The file that ``img plugins enable`` and ``disable`` keep: one of the user's toggle files, like any other."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.files.output import destination_errors
from img_core.forms.toml import read_toml

if TYPE_CHECKING:
    from img_core.config import Config

__all__ = ["FILE_NAME", "switch"]

#: Sorted behind what people write by hand with lower numbers, before what they want to have the last word.
FILE_NAME = "50-img-plugins.toml"
_HEAD = "# Kept by `img plugins enable` and `img plugins disable`.\n"


def switch(config: Config, plugin: str, *, enabled: bool) -> str:
    """Note that *plugin* (``kind:name``) is on or off; return the path of the file. Atomic. Raises ImgError, UsageError."""
    directory = os.path.join(config.config_directory, "plugins.d")
    path = os.path.join(directory, FILE_NAME)
    document = read_toml(path)
    lists = {key: [name for name in document.get(key, []) if name != plugin] for key in ("disabled", "enabled")}
    lists["enabled" if enabled else "disabled"].append(plugin)
    text = _HEAD + "".join(f"{key} = {json.dumps(sorted(names))}\n" for key, names in lists.items())
    with destination_errors(path):
        os.makedirs(directory, exist_ok=True)
        fs.replace_file(path, text.encode(), 0o644)
    return path
