"""Plugins that are one file: ``KIND-NAME.py`` in the user's directory of plugins, or named by ``--plugin``. Never anything of a context.

The name of the file says what it is, so that one that is switched off need not be imported. It holds what the module of an entry point
holds. Whoever may write the file decides what we run: it has to belong to us or to root, and nobody else may write it.
"""

from __future__ import annotations

import os
import sys
import types
from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError
from img_core.spec.kinds import GROUPS
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["import_file", "is_file", "module_name", "named_files", "plugins_in", "strays"]

_SUFFIX = ".py"
#: (kind, name, path)
Row = tuple[str, str, str]


def is_file(module: str) -> bool:
    """Tell whether what a plugin is loaded from is a file, not a module that is installed."""
    return module.startswith("/")


def plugins_in(directory: str) -> list[Row]:
    """Return the plugins in a directory of them, which need not exist. Imports none."""
    rows = (_parsed(os.path.join(directory, name)) for name in _python_files(directory))
    return [row for row in rows if row is not None]


def strays(directory: str) -> list[str]:
    """Return the paths in a directory of plugins that cannot be one: a name without kind is a mistake that nobody should search for."""
    paths = [os.path.join(directory, name) for name in _python_files(directory)]
    return [path for path in paths if _parsed(path) is None]


def named_files(paths: Sequence[str]) -> list[Row]:
    """Return the plugins that the user named. Raises UsageError for a file that is not there or whose name says no kind."""
    found = []
    for path in paths:
        row = _parsed(os.path.abspath(path))
        if row is None:
            raise UsageError(
                f"`{show(path)}` is not the name of a plugin", hint="it must be `KIND-NAME.py`, e.g. `exporter-list.py`"
            )
        if not os.path.isfile(path):
            raise UsageError(f"there is no file `{show(path)}`")
        found.append(row)
    return found


def module_name(path: str) -> str:
    """Return the name that the module of a file has while it runs."""
    return "img_file_" + os.path.basename(path).removesuffix(_SUFFIX).replace("-", "_").replace(".", "_")


def import_file(path: str) -> types.ModuleType:
    """Run the file as a module, once per process; nothing is written beside it. Raises PluginError if somebody else may have written it."""
    name = module_name(path)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == path:
        return known
    module = types.ModuleType(name)
    module.__file__ = path
    from img_core.files.trust import read_code  # not for who has none

    code = compile(read_code(path), path, "exec")
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - this is what plugins are for
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _python_files(directory: str) -> Iterable[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [name for name in names if name.endswith(_SUFFIX) and not name.startswith((".", "_"))]


def _parsed(path: str) -> Row | None:
    kind, hyphen, name = os.path.basename(path).removesuffix(_SUFFIX).partition("-")
    return (kind, name, path) if hyphen and name and kind in GROUPS and path.endswith(_SUFFIX) else None
