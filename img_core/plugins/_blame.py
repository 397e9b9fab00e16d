"""Whose failure it was: an exception that nobody expected and that comes out of a plugin is its authors' to mend, not ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.plugins._discovery import describe_failure, loaded_from
from img_core.spec.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["blamed"]


def blamed(err: BaseException) -> PluginError | None:
    """Return an error that names the plugin of another distribution in which *err* was raised; None if it was none of them.

    The innermost one counts: a plugin that is called by another one, and code that it called itself, ours included.
    """
    for name in _modules(err.__traceback__):
        found = loaded_from(name)
        if found is not None:
            return PluginError(
                f"plugin {found} failed: {describe_failure(err)}",
                hint=f"do without: `--no-plugin {found.kind}:{found.name}`, or tell the authors of {found.distribution}",
            )
    return None


def _modules(trace: TracebackType | None) -> Iterator[str]:
    """Give the names of the modules whose code was running, the innermost first."""
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        yield str(frame.f_globals.get("__name__", ""))
