"""Engines written for version 1 of their contract, in which the core divided builds: an engine moved tasks, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_lib_engines.sharing import TaskEngine, task_schema

if TYPE_CHECKING:
    from img_core.spec.engine import Engine

__all__ = ["adapted"]


def adapted(driver: type[Engine]) -> type[Engine]:
    """Return *driver* as an engine of version 2, which divides builds as version 1 did, with the options that heed that."""
    schema = driver.schema
    if schema is not None:
        schema = {**schema, "properties": {**task_schema()["properties"], **schema.get("properties", {})}}
    told = {"__doc__": driver.__doc__, "__module__": driver.__module__, "api": TaskEngine.api, "schema": schema}
    return type(driver.__name__, (driver, TaskEngine), told)
