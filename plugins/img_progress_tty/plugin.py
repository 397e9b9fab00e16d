"""Registers ``--progress=tty``."""

from img_core.spec import Progress, hookimpl


@hookimpl
def img_progress() -> type[Progress]:
    """Return the progress class."""
    from img_progress_tty._tty import TerminalProgress

    return TerminalProgress
