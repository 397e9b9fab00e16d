"""Registers ``-o type=tar``."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the exporter class."""
    from img_exporter_tar._tar import TarExporter

    return TarExporter
