"""A copy that cannot be recorded is made before its key is known, which its bytes tell; everything else is looked up first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from solver_lab import PLATFORMS, Lab, World

from img_core.files import copy
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import Copy, FileOp, RunOp, SourceOp, Vertex

CONTEXT = Vertex(SourceOp("local", "context"), (), None, "context")
BASE = Vertex(SourceOp("docker-image", "one"), (), PLATFORMS[0], "base")
ALL = Vertex(FileOp((Copy(1, (".",), "/to/"),)), (BASE, CONTEXT), PLATFORMS[0], "copy")
ADDED = replace(ALL, op=FileOp((Copy(1, (".",), "/to/", unpack=True, add=True),)))
STAGE = Vertex(RunOp(("make",)), (ALL,), PLATFORMS[0], "stage")
FROM_STAGE = Vertex(FileOp((Copy(1, ("to", "r"), "/"),)), (BASE, STAGE), PLATFORMS[0], "copy of stage")


class Builds:
    """Builds in one state directory, and what they did."""

    def __init__(self, lab: Lab, patch: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self.read = 0  #: files that were read for a digest alone
        read = copy.Reading.read

        def counting(reading: copy.Reading, *arguments: object) -> bool:
            self.read += 1
            return read(reading, *arguments)  # type: ignore[arg-type]

        patch.setattr(copy.Reading, "read", counting)

    def build(self, vertex: Vertex, world: World) -> tuple[list[str], int, int]:
        """Return the steps that were not found, how many files were read for a key, and how many snapshots there are."""
        made: list[str] = []

        def finished(step: Vertex, found: bool, _seconds: float, _error: str) -> None:
            if not found and not isinstance(step.op, SourceOp):
                made.append(step.name)

        self.read = 0
        with self.lab.solver(world, Plan((PlannedImage(PLATFORMS[0], vertex, {}, ()),)), finished=finished) as (
            solver,
            _,
        ):
            solver.solve()
        return made, self.read, len(self.lab.store.database.query("SELECT id FROM snapshot"))


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    lab = Lab(tmp_path / "lab", monkeypatch)
    yield Builds(lab, monkeypatch)
    lab.close()


@pytest.mark.parametrize("vertex", [ALL, ADDED], ids=["COPY", "ADD"])
def test_a_context_is_read_for_its_copy_alone_until_something_is_recorded(builds: Builds, vertex: Vertex) -> None:
    made, read, snapshots = builds.build(vertex, World())
    assert (made, read) == (["copy"], 0)
    made, read, again = builds.build(vertex, World())  # the files are young: what was read is not remembered
    assert (made, again) == ([], snapshots), "found before anything is copied"
    assert read == 3
    changed = World()
    changed.contexts["context"]["a"] = ("changed", 0o644)
    made, read, _ = builds.build(vertex, changed)
    assert (made, read) == (["copy"], 3), "it could have been recorded"
    assert builds.build(replace(vertex, use_cache=False), changed)[1] == 0, "it could not: nobody wants it"


def test_what_is_too_much_to_be_kept_is_read_for_its_copy_alone_where_it_looks_new(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("img_core.files.copy._reading._HELD", 0)

    def build(text: str, **more: bool) -> tuple[list[str], int]:
        world = World()
        world.contexts["context"]["a"] = (text, 0o644)
        return builds.build(replace(ALL, **more), world)[:2]  # type: ignore[arg-type]

    assert build("context a") == (["copy"], 0)
    assert build("context a") == ([], 3)
    assert build("longer than that") == (["copy"], 0), "no file of this size was recorded"
    assert build("longer than this") == (["copy"], 3), "that might have been recorded"
    assert build("context a") == ([], 3), "what was recorded before is found without a copy"
    assert build("new", use_cache=False) == (["copy"], 0)
    assert build("new") == ([], 3)


def test_a_copy_that_was_recorded_after_all_is_dropped(builds: Builds) -> None:
    _, _, snapshots = builds.build(ALL, World())
    with builds.lab.store.database.transaction() as cursor:
        cursor.execute("DELETE FROM tree_digest")
    left = set(Path(builds.lab.store.state).rglob("snapshots/native/*"))
    assert builds.build(ALL, World()) == ([], 0, snapshots)
    assert set(Path(builds.lab.store.state).rglob("snapshots/native/*")) == left
    assert builds.build(ALL, World()) == ([], 3, snapshots), "that it is recorded was noted"


def test_a_stage_is_read_for_its_copy_alone(builds: Builds) -> None:
    assert builds.build(FROM_STAGE, World())[:2] == (["copy", "stage", "copy of stage"], 0)
    made, read, _ = builds.build(FROM_STAGE, World())
    assert (made, read) == ([], 3), "the young files of the context, and none of the stage"


def test_the_same_instruction_on_another_base_is_new(builds: Builds) -> None:
    builds.build(ALL, World())
    other = replace(ALL, inputs=(replace(BASE, op=SourceOp("docker-image", "two")), CONTEXT))
    assert builds.build(other, World())[:2] == (["copy"], 0)
