"""Registers ``-o type=example``. Short, and imports nothing heavy: it runs whenever somebody lists plugins."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the exporter class."""
    from img_exporter_example._listing import ListingExporter

    return ListingExporter
