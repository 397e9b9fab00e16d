"""``git``: trees of git repositories, for ADD and for build contexts."""

from img_core.spec import Source, hookimpl


@hookimpl
def img_source() -> type[Source]:
    """Return the driver."""
    from img_source_git._source import GitSource

    return GitSource
