"""Registers the exporter `squashfs`. Short, and imports nothing heavy: it runs whenever somebody lists plugins."""

from img_core.spec import Exporter, hookimpl


@hookimpl
def img_exporter() -> type[Exporter]:
    """Return the class."""
    from img_exporter_squashfs._exporter import SquashfsExporter

    return SquashfsExporter
