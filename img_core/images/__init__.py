"""What images are made of: OCI documents, references, platforms and media types."""

__all__ = [
    "contents",
    "digests",
    "history",
    "layer_types",
    "lookup",
    "names",
    "oci",
    "origins",
    "platforms",
    "pull",
    "push",
    "reference",
    "schemas",
]
__version__ = "1.2"
