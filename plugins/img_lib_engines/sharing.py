"""Engines that move tasks: a build is cut into parts, which workers and this machine do at the same time."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.images import platforms
from img_core.spec.engine import Engine, engine_schema
from img_core.spec.errors import Canceled, ImgError, PluginError, Unsupported, UsageError
from img_core.spec.progress import StepStatus, WarningRaised
from img_core.spec.text import redacted
from img_lib_engines.cut import Cut, CutFacts, cut
from img_lib_engines.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from img_core.spec.engine import EngineWorker, SharedBuild
    from img_core.spec.graph import Vertex

__all__ = ["TaskEngine", "task_schema"]

_OPTIONS: Mapping[str, Any] = {  # Any: JSON
    "home": {
        "type": "integer",
        "minimum": 0,
        "maximum": 64,
        "description": "how many tasks this machine does at the same time beside the workers (1)",
    },
    "trusted": {
        "type": "string",
        "description": "workers that may get secrets, their names separated by `;`; others get none",
    },
    "tries": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
        "description": "on how many workers a task is tried before this machine does it (2)",
    },
}

_SPEED = 50e6  #: bytes a second that a layer is moved with, for an estimate
_STEP = "[internal] hand out parts of the build"


def task_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the `Engine.schema` of an engine with options of its own beside those that `TaskEngine` heeds (``_`` is written ``-``)."""
    return engine_schema(**_OPTIONS, **properties)


class TaskEngine(Engine):
    """An engine that is told how to move a task, and no more: it shares builds by their parts (`img_lib_engines.cut`)."""

    api: ClassVar[tuple[int, int]] = (2, 2)
    schema: ClassVar[Mapping[str, Any] | None] = task_schema()  # Any: JSON

    def share(self, build: SharedBuild) -> None:
        """See `Engine.share`."""
        workers = _reached(self, build)
        if not workers:
            return
        found = _cut(build, workers)
        for line in _lines(found):
            build.tell(StepStatus(_STEP, redacted(line), time.time()))
        if found.parts:
            with build.step(_STEP):
                Pool(found, self, workers, build).run()

    def expect(self, workers: Collection[str]) -> None:
        """Hear that each of *workers* (names) gets a task soon, or one more: what a task needs may be started there now, until `close`.

        Nothing has to be done, and none may come.
        """

    def preview(self, build: SharedBuild) -> Sequence[str]:
        """See `Engine.preview`."""
        return list(_lines(_cut(build, self.capacity())))


def _reached(engine: Engine, build: SharedBuild) -> tuple[EngineWorker, ...]:
    """Return the workers of *engine*; none, and a warning, if it does not answer. No method: drivers have methods of their own."""
    try:
        return engine.capacity()
    except (Canceled, UsageError, PluginError, Unsupported):
        raise
    except ImgError as err:
        build.tell(WarningRaised(redacted(f"engine `{engine.name}` is not used: {err.message}"), time.time()))
        return ()


def _cut(build: SharedBuild, workers: Sequence[EngineWorker]) -> Cut:
    served = {str(platforms.parse(platform)) for worker in workers for platform in worker.platforms} - {_host()}

    def platform(vertex: Vertex) -> str | None:
        name = str(vertex.platform or "")
        return name if name in served else "" if name else None

    def transfer(vertex: Vertex) -> float:
        return 2 * build.size(vertex) / _SPEED

    return cut(build.roots, CutFacts(build.missing(), build.seconds, transfer, platform, build.stays))


def _lines(found: Cut) -> Iterator[str]:
    """Say what is handed out, a line for each part."""
    for part in found.parts:
        took = "nobody knows how long" if part.seconds is None else f"about {part.seconds:.1f} s"
        after = [found.by_target[need].target.name for need in part.needs]
        yield (
            f"{part.target.name}: {len(part.steps)} steps, {took}, {part.platform or _host()}"
            + (f", after {', '.join(after)}" if after else "")
            + (f", here: {part.home}" if part.home else "")
        )
    yield f"here: {found.left} steps" if found.parts or found.left else "nothing has to run"


def _host() -> str:
    return str(platforms.host_platform())
