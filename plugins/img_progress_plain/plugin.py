"""Registers ``--progress=plain``."""

from img_core.spec import Progress, hookimpl


@hookimpl
def img_progress() -> type[Progress]:
    """Return the progress class."""
    from img_progress_plain._plain import PlainProgress

    return PlainProgress
