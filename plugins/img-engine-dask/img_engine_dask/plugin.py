"""Registers ``--engine dask``."""

from img_core.spec import Engine, hookimpl


@hookimpl
def img_engine() -> type[Engine]:
    """Return the driver."""
    from img_engine_dask._engine import DaskEngine

    return DaskEngine
