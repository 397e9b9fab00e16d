"""``archive``: one tar archive."""

from img_core.spec import Importer, hookimpl


@hookimpl
def img_importer() -> type[Importer]:
    """Return the importer class."""
    from img_importer_archive._importers import ArchiveImporter

    return ArchiveImporter
