"""Registers the source `debootstrap`. Short, and imports nothing heavy: it runs whenever somebody lists plugins."""

from img_core.spec import Source, hookimpl


@hookimpl
def img_source() -> type[Source]:
    """Return the class."""
    from img_source_debootstrap._source import DebootstrapSource

    return DebootstrapSource
