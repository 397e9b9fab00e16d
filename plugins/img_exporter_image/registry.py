"""Registers ``-o type=registry``."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the exporter class."""
    from img_exporter_image._image import RegistryExporter

    return RegistryExporter
