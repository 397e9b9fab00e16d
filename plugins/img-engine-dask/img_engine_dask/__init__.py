"""``--engine dask``: parts of builds on the workers of a dask cluster."""
