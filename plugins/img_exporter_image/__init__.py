"""``-o type=image``: keep the result in the image store under its names."""
