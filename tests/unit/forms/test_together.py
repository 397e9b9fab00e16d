"""Plans of several builds as one: what is equal is one step, what only looks alike is not, and each image stays what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from img_core.forms.together import PlannedBuild, Together, together
from img_core.spec.frontend import BuildWarning, HistoryEntry, Plan, PlannedImage
from img_core.spec.graph import Copy, FileOp, RunOp, SourceOp, Vertex
from img_core.testing.plans import AMD64

BASE = Vertex(SourceOp("docker-image", "busybox"), platform=AMD64, name="[base 1/2] FROM busybox")
SHARED = Vertex(RunOp(("shared",)), (BASE,), AMD64, "[base 2/2] RUN shared")


def copied(base: Vertex = SHARED, context: str = "context") -> Vertex:
    source = Vertex(SourceOp("local", context), name="[internal] load build context")
    return Vertex(FileOp((Copy(1, ("/f",), "/f"),)), (base, source), AMD64, "[stage-1 1/1] COPY f /f")


def build(root: Vertex | None, name: str = "app", **trees: str) -> PlannedBuild:
    history = tuple(HistoryEntry("step", vertex=vertex) for vertex in [root] if vertex is not None)
    plan = Plan((PlannedImage(AMD64, root, {"of": name}, history),), (BuildWarning(name),), 7)
    return PlannedBuild(plan, name, {key: (directory, "") for key, directory in trees.items()})


def digests(found: Together) -> set[str]:
    return {vertex.digest for vertex in found.plan.vertices()}


@pytest.mark.parametrize(
    ("builds", "steps"),
    [
        pytest.param([build(copied(), context="/a"), build(copied(), "b", context="/a")], 4, id="the-same-files"),
        pytest.param([build(copied(), context="/a"), build(copied(), "b", context="/b")], 6, id="other-files"),
        pytest.param(
            [build(copied(context="x"), x="/a"), build(copied(), "b", context="/a")], 4, id="the-same-files-by-another-name"
        ),
        pytest.param([build(SHARED), build(replace(SHARED, use_cache=False), "b")], 3, id="one-without-cache"),
        pytest.param([build(None), build(SHARED, "b")], 2, id="an-image-without-layers"),
    ],
)  # fmt: skip
def test_what_is_one_step(builds: list[PlannedBuild], steps: int) -> None:
    found = together(builds)
    assert len(digests(found)) == steps
    assert [image.config for image in found.plan.images] == [{"of": item.name} for item in builds]
    assert [warning.message for warning in found.plan.warnings] == [item.name for item in builds]
    assert found.plan.source_date_epoch == 7
    for image, own in zip(found.plan.images, found.steps, strict=True):
        below = {item.digest for item in Plan((image,)).vertices()}
        assert below == own
        assert {entry.vertex.digest for entry in image.history if entry.vertex} <= below


def test_each_context_keeps_its_files_whatever_it_is_called() -> None:
    builds = [
        build(copied(), context="/a"),
        build(copied(), "b", context="/b"),
        build(copied(context="context#1"), "c", **{"context#1": "/c"}),
    ]
    found = together(builds)
    read = [
        [item.op.reference for item in Plan((image,)).vertices() if isinstance(item.op, SourceOp)][-1]
        for image in found.plan.images
    ]
    assert [found.trees[name] for name in read] == [("/a", ""), ("/b", ""), ("/c", "")]


def test_an_ignore_file_makes_another_context() -> None:
    one = build(copied(), context="/a")
    two = PlannedBuild(one.plan, "two", {"context": ("/a", "/a/two.dockerignore")})
    assert len(digests(together([one, two]))) == 6


def test_a_step_knows_where_it_comes_from() -> None:
    first, second = build(SHARED), build(copied(), "b", context="/b")
    found = together([first, second])
    for vertex in found.plan.vertices():
        number, old = found.origins[vertex.digest]
        assert old in list((first, second)[number].plan.vertices())
    shown = [vertex.name for vertex in found.plan.vertices()]
    assert shown == [
        "[app base 1/2] FROM busybox", "[app base 2/2] RUN shared", "[internal] load build context", "[b stage-1 1/1] COPY f /f",
    ]  # fmt: skip
