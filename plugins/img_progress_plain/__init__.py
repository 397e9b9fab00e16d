"""``--progress=plain``: one line per event, in the form of BuildKit; ``--progress=quiet``: only what failed."""
