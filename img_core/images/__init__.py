"""What images are made of: OCI documents, references, platforms and media types."""

__all__ = [
    "compressions",
    "contents",
    "details",
    "digests",
    "document_graph",
    "history",
    "kept",
    "layer_types",
    "lookup",
    "names",
    "oci",
    "offline",
    "origins",
    "platforms",
    "pull",
    "push",
    "reference",
    "resolving",
    "schemas",
]
__version__ = "1.3"
