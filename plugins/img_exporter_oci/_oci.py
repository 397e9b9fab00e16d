"""Write an OCI image layout, as a tar archive or a directory."""

from __future__ import annotations

from img_lib_export.bundle.exporter import BundleExporter

__all__ = ["OciExporter"]


class OciExporter(BundleExporter):
    """Writes ``blobs/``, ``index.json`` and ``oci-layout``; several platforms become one index."""

    name = "oci"
    docker = False
