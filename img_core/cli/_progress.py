"""Choosing and feeding the plugin that shows progress."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from img_core.plugins import Plugins
    from img_core.spec.progress import Event, Progress

__all__ = ["choose", "showing"]

AUTO, NONE, PLAIN = "auto", "none", "plain"
_VARIABLE = "BUILDKIT_PROGRESS"


def choose(flag: str, environment: Mapping[str, str], plugins: Plugins) -> str:
    """Return the name of the progress plugin for *flag* (empty: the variable BUILDKIT_PROGRESS, else ``auto``).

    Raises UsageError for a flag that names none. The variable is written for other tools, too: what it names may be missing here.
    """
    installed = plugins.names("progress")
    variable = environment.get(_VARIABLE, "")
    wanted = flag or (variable if variable in (NONE, *installed) else AUTO)
    if wanted == NONE:
        return NONE
    if wanted == AUTO:
        candidates = plugins.candidates("progress", [AUTO])
        usable = [name for name in candidates if name in installed and (name != "tty" or _is_terminal())]
        return usable[0] if usable else NONE
    if wanted not in installed:
        raise UsageError(
            f"unknown progress `{wanted}`", hint="known: " + ", ".join(f"`{name}`" for name in [AUTO, *installed, NONE])
        )
    return wanted


@contextmanager
def showing(name: str, plugins: Plugins) -> Iterator[Callable[[Event], None]]:
    """Give the function that takes events; on leaving, whatever is held back is shown."""
    if name == NONE or sys.stderr is None:
        yield lambda _event: None
        return
    progress: Progress = plugins.driver("progress", name)(sys.stderr)
    try:
        yield progress.handle
    finally:
        progress.close()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
