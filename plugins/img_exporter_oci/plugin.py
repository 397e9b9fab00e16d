"""Registers ``-o type=oci``."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the exporter class."""
    from img_exporter_oci._oci import OciExporter

    return OciExporter
