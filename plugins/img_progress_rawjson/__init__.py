"""``--progress=rawjson``: events as JSON, for programs."""
