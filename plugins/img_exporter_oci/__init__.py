"""``-o type=oci``: an OCI image layout, as a tar archive or a directory."""
