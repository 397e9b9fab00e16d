"""An engine as it was written for img 0.1.0: it moves tasks, says nothing of versions, and goes on to work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

from img_core.forms.event_lines import result_text
from img_core.images.platforms import host_platform
from img_core.linux.cancellation import Cancellation
from img_core.plugins._discovery import Found
from img_core.plugins._making import construct
from img_core.plugins._register import driver_of
from img_core.spec import Engine, EngineHandle, EngineTask, EngineWorker, engine_schema, hookimpl
from img_core.spec.graph import RunOp, Vertex
from img_core.testing.results import host
from img_lib_engines import sharing
from img_lib_engines.cut import Cut, CutPart

STEP = Vertex(RunOp(("true",)), name="RUN true")


class _Done(EngineHandle):
    worker = "far"

    def wait(self) -> None:
        pass


class Old(Engine):  # type: ignore[abstract]  # version 2 wants more
    """Has one worker, which says at once that a task is done."""

    name = "old"
    schema = engine_schema(to={"type": "string"})

    def capacity(self) -> tuple[EngineWorker, ...]:
        return (EngineWorker("far", (str(host_platform()),)),)

    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        TAKEN.append(task.document)
        tell(result_text(1, 0))
        return _Done()

    def cancel(self, handle: EngineHandle) -> None:
        pass


TAKEN: list[str] = []


@hookimpl
def img_engine() -> type[Engine]:
    return Old


@pytest.fixture
def driver() -> type[Engine]:
    module = ModuleType("img_engine_old.plugin")
    module.img_engine = img_engine  # type: ignore[attr-defined]
    told = "plugin engine:old of img-engine-old 0.1.0 speaks version 1 of the engine contract; this img is the last"
    with pytest.warns(FutureWarning, match=told):
        found: type[Engine] = driver_of(Found("engine", "old", module.__name__, "img-engine-old", "0.1.0"), module)
    return found


def test_it_keeps_its_name_its_words_and_its_options_beside_those_that_the_core_heeded(driver: type[Engine]) -> None:
    assert (driver.name, driver.__doc__, driver.api) == ("old", Old.__doc__, (2, 2))
    assert driver.schema is not None
    assert {"to", "cache", "command", "dry-run", "home", "max-parallelism", "tries", "trusted"} == set(
        driver.schema["properties"]
    )


def test_builds_are_divided_for_it(driver: type[Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = CutPart(STEP, (STEP,))
    monkeypatch.setattr(sharing, "cut", lambda *_: Cut((part,), 0, {STEP.digest: part}))
    TAKEN.clear()
    cancellation = Cancellation()
    build = MagicMock(roots=(STEP,), cancel_fd=cancellation.fd, task=lambda *_, **__: "do it")
    engine = construct("engine", driver, (host(tmp_path),), {"home": 0})
    assert engine.preview(build)[0].startswith("RUN true: 1 steps")
    engine.share(build)
    assert TAKEN == ["do it"]
    cancellation.close()
