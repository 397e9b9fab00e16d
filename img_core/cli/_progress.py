"""Choosing and feeding the plugin that shows progress."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.spec.errors import PluginError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.plugins import Plugins
    from img_core.spec.progress import Event, Progress

__all__ = ["choose", "showing"]

AUTO, NONE = "auto", "none"
_VARIABLE = "BUILDKIT_PROGRESS"


def choose(flag: str, environment: Mapping[str, str], plugins: Plugins) -> list[str]:
    """Return the names of progress plugins to try for *flag* (empty: the variable BUILDKIT_PROGRESS, else ``auto``), best first.

    Raises UsageError for a flag that names none. The variable is written for other tools, too: what it names may be missing here.
    """
    installed = plugins.names("progress")
    variable = environment.get(_VARIABLE, "")
    wanted = flag or (variable if variable in (NONE, *installed) else AUTO)
    if wanted == NONE:
        return []
    if wanted == AUTO:
        candidates = plugins.candidates("progress", [AUTO])
        return [name for name in candidates if name in installed and (name != "tty" or _is_terminal())]
    if wanted not in installed:
        known = ", ".join(f"`{name}`" for name in [AUTO, *installed, NONE])
        raise UsageError(f"unknown progress `{wanted}`", hint=f"known: {known}")
    return [wanted]


@contextmanager
def showing(names: Sequence[str], plugins: Plugins) -> Iterator[Callable[[Event], None]]:
    """Give the function that takes events, of the first plugin of *names* that loads; on leaving, what is held back is shown.

    Raises PluginError if *names* has a single one, and that is broken.
    """
    progress = _load(names, plugins)
    if progress is None:
        yield lambda _event: None
        return
    try:
        yield progress.handle
    finally:
        progress.close()


def _load(names: Sequence[str], plugins: Plugins) -> Progress | None:
    """Return the first that loads: a terminal that cannot be drawn on for want of a library is no reason not to build."""
    if sys.stderr is None:
        return None
    for name in names:
        try:
            progress: Progress = plugins.driver("progress", name)(sys.stderr)
        except PluginError:
            if len(names) == 1:
                raise
        else:
            return progress
    return None


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
