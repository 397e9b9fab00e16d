"""``-o type=docker``: an image as ``docker save`` writes it, for ``docker load``."""
