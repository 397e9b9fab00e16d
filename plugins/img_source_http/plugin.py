"""``https`` (and ``http``): single files from web servers, for ADD and for build contexts."""

from img_core.spec import Source, hookimpl


@hookimpl
def img_source() -> type[Source]:
    """Return the driver."""
    from img_source_http._source import WebSource

    return WebSource
