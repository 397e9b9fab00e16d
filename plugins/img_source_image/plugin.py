"""``docker-image``: images from registries, Docker's and OCI's kinds."""

from img_core.spec import Source, hookimpl


@hookimpl
def img_source() -> type[Source]:
    """Return the source class."""
    from img_source_image._source import RegistrySource

    return RegistrySource
