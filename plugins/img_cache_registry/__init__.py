"""``--cache-to type=registry``: build results in a registry, under a tag."""
