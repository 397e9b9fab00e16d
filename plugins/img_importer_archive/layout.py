"""``layout``: a directory with an OCI image layout."""

from img_core.spec import Importer, hookimpl


@hookimpl
def img_importer() -> type[Importer]:
    """Return the importer class."""
    from img_importer_archive._importers import LayoutImporter

    return LayoutImporter
