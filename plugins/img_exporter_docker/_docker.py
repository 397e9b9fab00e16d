"""Write an image as ``docker save`` writes it, for ``docker load``."""

from __future__ import annotations

from img_lib_export.bundle.exporter import BundleExporter

__all__ = ["DockerExporter"]


class DockerExporter(BundleExporter):
    """Writes ``manifest.json`` beside the OCI layout; that file knows one platform only."""

    name = "docker"
    docker = True
