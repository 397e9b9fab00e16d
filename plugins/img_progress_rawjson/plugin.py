"""Registers ``--progress=rawjson``."""

from img_core.spec import Progress, hookimpl


@hookimpl
def img_progress() -> type[Progress]:
    """Return the progress class."""
    from img_progress_rawjson._rawjson import RawJsonProgress

    return RawJsonProgress
