"""``oci-layout``: images from directories with an OCI image layout."""

from img_core.spec import Source, hookimpl


@hookimpl
def img_source() -> type[Source]:
    """Return the driver."""
    from img_source_oci_layout._source import LayoutSource

    return LayoutSource
