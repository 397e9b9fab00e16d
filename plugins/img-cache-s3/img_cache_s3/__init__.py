"""``--cache-to type=s3``: build results in a bucket."""
