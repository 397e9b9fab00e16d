"""Registers ``-o type=docker``."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the exporter class."""
    from img_exporter_docker._docker import DockerExporter

    return DockerExporter
