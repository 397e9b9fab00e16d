"""Images from tar archives of ``docker save``, ``img save`` and others, and from directories with an OCI image layout."""
