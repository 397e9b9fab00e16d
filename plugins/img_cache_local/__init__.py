"""``--cache-to type=local``: build results in a directory, an OCI image layout that several machines may share."""
