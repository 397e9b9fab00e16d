"""``local``: a directory of this machine as build context."""

from img_core.spec import Source, hookimpl


@hookimpl
def img_source() -> type[Source]:
    """Return the driver."""
    from img_source_local._local import LocalSource

    return LocalSource
