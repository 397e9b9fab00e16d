"""What is sent to a worker: what is written is read, and nothing else is taken for it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from img_core.forms.tasks import PackedContext, SentTask
from img_core.spec.errors import UsageError
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import RunOp, SourceOp, Vertex
from img_core.spec.values import Descriptor, DiffId, Digest, Platform

KEYS = 7
DIGEST = "sha256:" + "1" * 64
STEP = Vertex(RunOp(("true",)), (Vertex(SourceOp("docker-image", "base")),), Platform("linux", "amd64"))
TASK = SentTask(
    Plan((PlannedImage(Platform("linux", "amd64"), STEP, {}, ()),), source_date_epoch=1),
    ("local", {"src": "/cache", "mode": "max"}),
    ("registry", {"ref": "app:cache"}),
    {"context": PackedContext(Descriptor("layer", Digest(DIGEST), 3), DiffId(DIGEST))},
    "none",
    ("registry.example",),
    True,
    {"token": b"\x00\xff"},
    3,
    2,
)


@pytest.mark.parametrize("task", [TASK, SentTask(TASK.plan, ("local", {}))], ids=["all", "little"])
def test_what_is_written_is_read(task: SentTask) -> None:
    read = SentTask.read(task.text(KEYS), KEYS)
    assert [root.digest for root in read.plan.roots()] == [STEP.digest]
    assert replace(read, plan=task.plan) == task  # vertices are equal by their digests


@pytest.mark.parametrize(
    ("parallelism", "sharing", "most", "steps"),
    [
        pytest.param(0, 1, 0, 8, id="a-machine-of-its-own"),
        pytest.param(0, 3, 0, 2, id="one-of-three-tasks"),
        pytest.param(0, 99, 0, 1, id="never-none"),
        pytest.param(3, 2, 0, 3, id="as-many-as-asked-for"),
        pytest.param(20, 1, 4, 4, id="no-more-than-the-machine-allows"),
        pytest.param(0, 1, 20, 8, id="what-is-allowed-is-no-wish"),
    ],
)
def test_how_many_steps_run_at_the_same_time(parallelism: int, sharing: int, most: int, steps: int) -> None:
    assert replace(TASK, parallelism=parallelism, sharing=sharing).steps_at_once(8, most) == steps


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param({"schema": "img-plan"}, "no task", id="something-else"),
        pytest.param({"version": 1}, "version", id="version"),
        pytest.param({"keys": 8}, "version", id="keys"),
        pytest.param({"roots": [DIGEST]}, "not those that were meant", id="other-steps"),
        pytest.param({"plan": None}, "no plan", id="no-plan"),
        pytest.param({"source": ["local"]}, "`task.source`", id="half-a-cache"),
        pytest.param({"source": None}, "`task.source`", id="no-cache"),
        pytest.param({"secrets": {"a": "b"}}, "`task.secrets.a`", id="a-secret-of-text"),
        pytest.param({"contexts": {"a": {}}}, "`task.contexts.a`", id="no-context"),
    ],
)
def test_what_is_no_task_is_refused(wrong: dict[str, Any], message: str) -> None:
    document = json.loads(TASK.text(KEYS))
    with pytest.raises(UsageError, match=message):
        SentTask.read(json.dumps({**document, **wrong}), KEYS)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(UsageError, match="JSON"):
        SentTask.read("{", KEYS)
