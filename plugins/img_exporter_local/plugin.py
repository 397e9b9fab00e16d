"""Registers ``-o type=local``."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the exporter class."""
    from img_exporter_local._local import LocalExporter

    return LocalExporter
