"""``--cache-to type=gha``: build results in the cache service of GitHub Actions."""
