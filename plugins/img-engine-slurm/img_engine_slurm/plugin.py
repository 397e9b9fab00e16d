"""Registers ``--engine slurm``."""

from img_core.spec import Engine, hookimpl


@hookimpl
def img_engine() -> type[Engine]:
    """Return the driver."""
    from img_engine_slurm._engine import SlurmEngine

    return SlurmEngine
