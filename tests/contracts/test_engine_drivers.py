"""The engine of the test kit against the contract of engines; others are distributions of their own."""

from __future__ import annotations

from img_core.testing.contracts.engine import EngineContract
from img_lib_engines.processes import ProcessEngine


class TestProcesses(EngineContract):
    engine_class = ProcessEngine
