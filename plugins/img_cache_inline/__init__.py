"""``--cache-to type=inline``: build results in the config of the image itself."""
