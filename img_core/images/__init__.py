"""What images are made of: OCI documents, references, platforms and media types."""
