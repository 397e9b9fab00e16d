"""Choosing and feeding the plugin that shows progress."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.cli._output import saying_by
from img_core.plugins import UnknownPlugin, parse_choice
from img_core.spec.errors import PluginError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from img_core.plugins import Plugins
    from img_core.spec.progress import Event, Progress

__all__ = ["HELP", "Display", "choose", "is_machine_readable", "showing"]

HELP = "how to show progress: auto, plain, tty, rawjson, quiet or none"

AUTO, NONE, TERMINAL = "auto", "none", "tty"
_VARIABLE = "BUILDKIT_PROGRESS"


def choose(flag: str, environment: Mapping[str, str], plugins: Plugins) -> list[str]:
    """Return the progress plugins to try for *flag* (empty: the variable BUILDKIT_PROGRESS, else ``auto``), best first.

    A name in *flag* may have options, as in ``NAME,key=value``.

    Raises UsageError for a flag that names none, or ``tty`` where there is no terminal, PluginError that says who switched it off. The
    variable is written for other tools and other places, too: what it names may be missing or useless here, which is no error.
    """
    installed = plugins.names("progress")
    wanted = flag or _from_variable(environment.get(_VARIABLE, ""), installed)
    name = parse_choice("progress", wanted).name
    if wanted == NONE:
        return []
    if wanted == AUTO:
        candidates = plugins.candidates("progress", [AUTO])
        return [
            name for name in candidates if name in installed and (name != TERMINAL or _can_be_drawn_on(environment))
        ]
    try:
        plugins.usable("progress", name)
    except UnknownPlugin:
        known = ", ".join(f"`{each}`" for each in [AUTO, *installed, NONE])
        raise UsageError(f"unknown progress `{name}`", hint=f"known: {known}") from None
    if name == TERMINAL and not _is_terminal():
        raise UsageError("`--progress=tty` needs a terminal as standard error", hint="`--progress=plain` does not")
    return [wanted]


def _from_variable(value: str, installed: Sequence[str]) -> str:
    known = value in (NONE, *installed)
    return value if known and (value != TERMINAL or _is_terminal()) else AUTO


def is_machine_readable(names: Sequence[str], plugins: Plugins) -> bool:
    """Tell whether programs read what the one plugin in *names* writes, so that nothing else must be written there."""
    if len(names) != 1:
        return False
    return bool(plugins.driver("progress", parse_choice("progress", names[0]).name).machine_readable)


class Display:
    """Shows events through *progress* until `end`, which may come early: then something else needs the terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ending = threading.Lock()
        self._ended = False

    def __call__(self, event: Event) -> None:
        """Show *event*, unless the end has come."""
        if not self._ended:
            self._progress.handle(event)

    def end(self) -> None:
        """Show what is held back, and nothing after that."""
        with self._ending:
            if not self._ended:
                self._ended = True
                self._progress.close()


@contextmanager
def showing(names: Sequence[str], plugins: Plugins, *, title: str = "Building") -> Iterator[Display | None]:
    """Give what takes events, by the first plugin of *names* that loads; on leaving, what is held back is shown.

    None if nobody wants events. *title* says in one word what is done. Raises PluginError if *names* has a single one, and that is broken.
    """
    progress = _load(names, plugins)
    if progress is None:
        yield None
        return
    progress.title = title
    display = Display(progress)
    try:
        with saying_by(progress.note):
            yield display
    finally:
        display.end()


def _load(names: Sequence[str], plugins: Plugins) -> Progress | None:
    """Return the first that loads: a terminal that cannot be drawn on for want of a library is no reason not to build."""
    if sys.stderr is None:
        return None
    for name in names:
        try:
            progress: Progress = plugins.make("progress", name, sys.stderr)
        except PluginError:
            if len(names) == 1:
                raise
        else:
            return progress
    return None


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _can_be_drawn_on(environment: Mapping[str, str]) -> bool:
    return _is_terminal() and environment.get("TERM", "") not in ("", "dumb")
