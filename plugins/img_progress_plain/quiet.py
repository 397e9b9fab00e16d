"""Registers ``--progress=quiet``."""

from img_core.spec import Progress, hookimpl


@hookimpl
def img_progress() -> type[Progress]:
    """Return the progress class."""
    from img_progress_plain._quiet import QuietProgress

    return QuietProgress
